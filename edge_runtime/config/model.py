"""A worker's configuration, read and validated: frozen records that the rest of the runtime passes around.

Sections that belong to a kind of binding are read by that kind (`SectionReader`); everything else is read here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from edge_runtime.config.pinned import pinned_name
from edge_runtime.limits import MEMORY_MB_DEFAULT, STARTUP_CPU_MS_DEFAULT

JsonValue = None | bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"]


class Secret(str):
    """A string whose repr hides it, so that it does not reach logs or tracebacks by accident."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Secret('***')"


@dataclass(frozen=True, slots=True)
class Binding:
    """One name in `env`: which kind provides it, and that kind's own record. `name` "" is a part of the
    configuration that the kind needs but that has no name in `env` (migrations, assets without binding)."""

    kind: str
    name: str
    spec: object


@dataclass(frozen=True, slots=True)
class Where:
    """A place in a configuration file, for errors: `Where(file, "kv_namespaces[0].id")`."""

    file: str
    at: str = ""

    def __truediv__(self, part: str | int) -> Where:
        if isinstance(part, int):
            return Where(self.file, f"{self.at}[{part}]")
        return Where(self.file, f"{self.at}.{part}" if self.at else part)


class SectionReader(Protocol):
    """The part of a binding kind that configuration needs."""

    name: str
    """The kind's name, as registered by its entry point."""

    sections: tuple[str, ...]
    """Top-level keys of the wrangler file that belong to this kind."""

    def parse(self, sections: Mapping[str, object], worker: str, where: Where) -> Iterable[Binding]:
        """Read this kind's sections (only those present are in `sections`).

        Use `config.decode.decode(value, type, where / section)` for validation. Raises ConfigError.
        """


@runtime_checkable
class NoticesAbsence(Protocol):
    """A kind to which it matters that a worker has none of its sections: it may have had them before."""

    def absent(self, worker: str, where: Where) -> Iterable[Binding]:
        """In place of `parse`. Without names."""


@runtime_checkable
class OffersClasses(Protocol):
    """A kind whose bindings name classes that bindings of other workers may reach, too (`script_name`)."""

    def offered(self, binding: Binding, worker: str) -> Iterable[tuple[str, str, str]]:
        """Of the worker's own binding: the kind of actor, the class as others name it, the namespace of its actors."""


@runtime_checkable
class PinsVersions(Protocol):
    """A kind of whose actors some stay with the version of the worker that they began with."""

    def pins(self, binding: Binding, config: WorkerConfig) -> bool:
        """Whether this binding, of the worker's own, is one of those."""


@dataclass(frozen=True, slots=True)
class Route:
    """`host` is exact, "*.example.com" or "*" (any); `path` is a prefix such as "/api/" or exact when `exact`."""

    host: str
    path: str
    exact: bool = False


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    cpu_ms: int
    subrequests: int
    blocked_ms: int
    """Ours (`[edge] blocked_ms`): how long a blocked event loop may wait for something before the isolate is killed.
    The time in which it computes, or waits for a processor, is left to `cpu_ms`."""
    memory_mb: int = MEMORY_MB_DEFAULT
    """Ours (`[edge] memory_mb`): private memory of an isolate; beyond it allocations raise MemoryError."""
    instances: int = 1
    """Ours (`[edge] instances`): isolates that serve the worker side by side; each of its actors lives in one."""
    startup_cpu_ms: int = STARTUP_CPU_MS_DEFAULT
    """Ours (`[edge] startup_cpu_ms`): CPU time that the import of the script may take."""


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """One worker, for one environment (`-e NAME`, or None)."""

    name: str
    environment: str | None
    file: Path
    root: Path
    main: Path | None
    """The script, absolute; None for a worker of static assets alone."""
    compatibility_date: str
    compatibility_flags: frozenset[str]
    flavour: Literal["trio", "asyncio"]
    """asyncio if `python_workers` is among the flags, unless `[edge] flavour` says otherwise."""
    vars: Mapping[str, JsonValue]
    secrets: Mapping[str, Secret]
    bindings: tuple[Binding, ...]
    crons: tuple[str, ...]
    routes: tuple[Route, ...]
    limits: WorkerLimits
    drift: Literal["strict", "lenient"] = "strict"
    """Ours (`[edge] drift`): whether workflow instances stop when their script differs from what they have done."""
    workflow_version: Literal["newest", "pinned"] = "newest"
    """Ours (`[edge] workflow_version`): whether workflow instances go on with the newest version of the script or stay
    with the one that they began with."""
    pinned: str | None = None
    """This version of the worker runs only the workflow instances that are pinned to it."""
    http1: Literal["llhttp", "hypercorn"] = "llhttp"
    """Ours (`[edge] http1`): what serves HTTP/1. "llhttp" is the runtime's own connection loop; "hypercorn" the slower
    reference, which serves HTTP/2 and upgrades in either case."""
    requirements: tuple[str, ...] = ()
    """`[project] dependencies` of the pyproject.toml beside the wrangler file."""
    warnings: tuple[str, ...] = field(default=())

    @property
    def address(self) -> str:
        """The worker's name in the addresses of the actors that live in its isolates."""
        return self.name if self.pinned is None else pinned_name(self.name, self.pinned)

    def flag(self, name: str, default_from: str | None = None, off: str | None = None) -> bool:
        """Whether a compatibility flag is on: listed, or by date (`default_from`) unless `off` is listed."""
        if name in self.compatibility_flags:
            return True
        if off is not None and off in self.compatibility_flags:
            return False
        return default_from is not None and self.compatibility_date >= default_from


def pinned_config(config: WorkerConfig, version: str) -> WorkerConfig:
    """Of the worker's version that runs only what is pinned to it: nothing comes in from outside."""
    return replace(config, pinned=version, routes=(), crons=())
