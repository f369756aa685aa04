"""`ctx` of handlers that are not Durable Objects, and the module-level `waitUntil`."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, NoReturn

from edge_runtime.event import EventContext, require_event
from edge_runtime.workers.js_values import JsDict
from edge_runtime.workers.own_exports import OwnExports, own_exports

ABORTED = "Worker execution was aborted due to call to ctx.abort()."


class ExecutionAborted(BaseException):
    """The script ended its own event by `ctx.abort`; not for its `except Exception` to catch."""


class ExecutionContext:
    """`self.ctx` of one event."""

    __slots__ = ("_event", "_props")

    def __init__(self, event: EventContext, props: JsDict | None = None) -> None:
        self._event = event
        self._props = props

    @property
    def props(self) -> JsDict:
        """What the caller's service binding was configured with; empty where there is none."""
        if self._props is None:
            self._props = JsDict()
        return self._props

    @property
    def exports(self) -> OwnExports:
        """The script's own entrypoints and Durable Object classes."""
        return own_exports

    def waitUntil(self, work: Awaitable[Any]) -> None:
        """Keep the event alive until `work` has ended, at most 30 s after the reply. Its failure is only logged."""
        _wait_until(self._event, work)

    wait_until = waitUntil

    def passThroughOnException(self) -> None:
        """Accepted without effect: there is no origin server behind this runtime to pass the request to."""

    pass_through_on_exception = passThroughOnException

    def abort(self, reason: object = None) -> NoReturn:
        """End this event; its caller sees an error with `reason`."""
        raise ExecutionAborted(ABORTED if reason is None else str(reason))

    def __repr__(self) -> str:
        return f"<ExecutionContext of {self._event.name}>"


def waitUntil(work: Awaitable[Any]) -> None:
    """As `ctx.waitUntil`, for the event that is running. RuntimeError outside of one."""
    _wait_until(require_event("waitUntil()"), work)


wait_until = waitUntil


def _wait_until(event: EventContext, work: object) -> None:
    if not isinstance(work, Awaitable):
        raise TypeError(
            f"waitUntil() takes a coroutine, a task, a future or a promise, not {type(work).__name__}"
            + ("; call the function first" if callable(work) else "")
        )
    event.wait_until(work)
