"""What a kind of binding is: configuration section in, object in `env` out.

A kind is a folder here (or a package elsewhere) whose `KIND` object is registered under the entry point group
`edge_runtime.bindings`. Nothing else in the runtime names a kind. Commands that a kind adds to `edge` are registered
under `edge_runtime.commands`, so that the command line imports them only when they are asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Protocol

from edge_runtime.actors.api import ActorHost, ActorKind
from edge_runtime.config.model import Binding, SectionReader, WorkerConfig
from edge_runtime.event import Events
from edge_runtime.seams import Clock, Flavour, Offload, Randomness
from edge_runtime.store.api import Store

GROUP = "edge_runtime.bindings"


class Neighbourhood(Protocol):
    """The other workers of the server, as far as bindings may reach them."""

    def namespace(self, worker: str, kind: ActorKind, cls: str) -> str:
        """The namespace of another worker's class (its workflow, by name). Raises UsageError if there is none."""


@dataclass(frozen=True, slots=True)
class BindingRuntime:
    """What an isolate offers to the bindings of its worker."""

    worker: WorkerConfig
    version: str
    store: Store
    clock: Clock
    random: Randomness
    offload: Offload
    flavour: Flavour
    events: Events
    actors: ActorHost
    exports: dict[str, type[Any]]
    """Classes of the script by name: subclasses of DurableObject, WorkerEntrypoint and WorkflowEntrypoint."""
    env: Any
    """The `env` object under construction, for kinds that hand it to a user's class; complete once serving."""
    development: bool
    neighbours: Neighbourhood


class BindingKind(SectionReader, Protocol):
    """A kind; stateless, one object per process."""

    def build(self, binding: Binding, runtime: BindingRuntime) -> object | None:
        """Make the object that `env.<binding.name>` is; None for a nameless part. Called once per isolate, before
        serving; raises ScriptError when the script lacks what the configuration names."""

    async def serve(self, bindings: Sequence[Binding], runtime: BindingRuntime) -> None:
        """Work in the background of an isolate (sweeps, retention); cancelled when the isolate drains.
        Returns at once if there is nothing to do."""


@cache
def load_kinds() -> tuple[BindingKind, ...]:
    """All registered kinds, ordered by name. Looked up once; forked isolates find them loaded."""
    found = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    return tuple(point.load() for point in found)
