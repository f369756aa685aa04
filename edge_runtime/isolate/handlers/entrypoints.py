"""From a script's exports to callables that serve events: a fresh entrypoint instance per event, Cloudflare's
calling conventions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edge_runtime.event import require_event
from edge_runtime.isolate.handlers.schedules import ScheduledController
from edge_runtime.isolate.script.loader import LoadedScript
from edge_runtime.workers.context import ExecutionContext
from edge_runtime.workers.exports import relaxed_call_args
from edge_runtime.workers.request import Request


@dataclass(frozen=True, slots=True)
class EventHandler:
    """`call` takes the event's one argument and may return an awaitable; `name` is the handler on the bill."""

    call: Callable[[Any], Any]
    name: str


def fetch_handler(script: LoadedScript) -> EventHandler | None:
    """The default entrypoint's fetch; surplus arguments (env, ctx) are dropped by its signature.

    None for a worker of static assets alone. A script without one is served by a handler that fails, and says so.
    """
    exports, env = script.exports, script.env
    on_fetch = exports.global_handlers.get("fetch")
    if on_fetch is not None:

        def call_function(request: Request) -> Any:
            ctx = ExecutionContext(require_event("fetch"))
            return on_fetch(*relaxed_call_args(on_fetch, (request, env, ctx)))

        return EventHandler(call_function, "on_fetch")
    if script.module is None:
        return None
    default = exports.default
    if default is None or not hasattr(default, "fetch"):
        return EventHandler(_no_fetch, "fetch")

    def call_method(request: Request) -> Any:
        ctx = ExecutionContext(require_event("fetch"))
        fetch = default(ctx, env).fetch  # type: ignore[attr-defined]
        return fetch(*relaxed_call_args(fetch, (request, env, ctx)))

    return EventHandler(call_method, "Default.fetch")


def _no_fetch(_: Request) -> Any:
    raise TypeError(
        "Handler does not export a fetch() function. The script answers requests with a class "
        "Default(WorkerEntrypoint) that has one."
    )


def scheduled_handler(script: LoadedScript) -> EventHandler | None:
    """The default entrypoint's scheduled, which must take exactly controller, env and ctx."""
    exports, env = script.exports, script.env
    on_scheduled = exports.global_handlers.get("scheduled")
    if on_scheduled is not None:

        def call_function(controller: ScheduledController) -> Any:
            return on_scheduled(controller, env, ExecutionContext(require_event("scheduled")))

        return EventHandler(call_function, "on_scheduled")
    default = exports.default
    if default is None or not hasattr(default, "scheduled"):
        return None

    def call_method(controller: ScheduledController) -> Any:
        ctx = ExecutionContext(require_event("scheduled"))
        return default(ctx, env).scheduled(controller, env, ctx)  # type: ignore[attr-defined]

    return EventHandler(call_method, "Default.scheduled")
