"""What a script finds in `env` and in `ctx.exports`: built from its configuration by the kinds of bindings."""

from __future__ import annotations

from dataclasses import dataclass, field

import trio

from bindings.front_door import FrontDoor, HasFrontDoor
from bindings.kind import BindingKind, BindingRuntime, load_kinds
from edge_runtime.config.model import Binding
from edge_runtime.isolate.events.lifecycle import IsolateEvents
from edge_runtime.isolate.script.loader import LoadedScript
from edge_runtime.isolate.script.loopback import loopback_services, own_namespaces
from edge_runtime.workers.environment import fill_env
from edge_runtime.workers.own_exports import own_exports


@dataclass
class Environment:
    used: list[tuple[BindingKind, list[Binding]]] = field(default_factory=list)
    namespaces: dict[str, object] = field(default_factory=dict)
    """Of the worker's own Durable Object classes."""
    doors: list[FrontDoor] = field(default_factory=list)


def build_environment(
    script: LoadedScript, runtime: BindingRuntime, work: trio.Nursery, events: IsolateEvents
) -> Environment:
    """Fill `env` and `ctx.exports`, and collect what else the kinds of the configuration's bindings offer. Events of
    the worker's own entrypoints run in `work`."""
    config = runtime.worker
    built = Environment()
    for kind in load_kinds():
        bindings = [binding for binding in config.bindings if binding.kind == kind.name]
        all_made: list[tuple[Binding, object | None]] = []
        for binding in bindings:
            made = kind.build(binding, runtime)
            all_made.append((binding, made))
            if binding.name:
                fill_env(runtime.env, {binding.name: made})
            if isinstance(kind, HasFrontDoor) and (door := kind.front_door(binding, made, runtime)) is not None:
                built.doors.append(door)
        if bindings:
            built.used.append((kind, bindings))
            built.namespaces.update(own_namespaces(kind, all_made, config))
    if config.flag("enable_ctx_exports", default_from="2025-11-17", off="disable_ctx_exports"):
        services = loopback_services(script.exports.workers, script.env, events, work)
        # Classes without a namespace are there for facets.
        own_exports._fill({**services, **script.exports.objects, **built.namespaces})
    return built
