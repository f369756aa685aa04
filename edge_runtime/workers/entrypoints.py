"""The classes that scripts derive from, and the decorator for handlers in the old style."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NoReturn, ParamSpec, TypeVar

from edge_runtime.workers.request import JsRequest

P = ParamSpec("P")
R = TypeVar("R")


class DurableObjectAbort(BaseException):
    """Raised by `ctx.abort()` in a Durable Object to stop the code that called it."""


class DurableObjectContext:
    """`self.ctx` of a Durable Object. The binding derives its own from this, with storage, id and sockets."""

    def abort(self, reason: object = None) -> NoReturn:
        """Reset the object: what is not yet durable is dropped, and its callers see `reason`."""
        raise DurableObjectAbort(
            "Application called abort() to reset Durable Object." if reason is None else str(reason)
        )


class WorkerEntrypoint:
    """Base of a worker's entrypoints; an instance is made for each event."""

    ctx: Any
    env: Any

    def __init__(self, ctx: Any, env: Any) -> None:
        self.ctx = ctx
        self.env = env


class DurableObject:
    """Base of Durable Object classes; an instance lives as long as the object is in memory."""

    ctx: Any
    env: Any

    def __init__(self, ctx: Any, env: Any) -> None:
        self.ctx = ctx
        self.env = env


class WorkflowEntrypoint:
    """Base of workflow classes; an instance is made each time `run` is started or resumed."""

    ctx: Any
    env: Any

    def __init__(self, ctx: Any, env: Any) -> None:
        self.ctx = ctx
        self.env = env


def handler(func: Callable[P, R]) -> Callable[P, R]:
    """Mark a global function such as `on_fetch` as a handler that takes the SDK's own types.

    The runtime passes those anyway; a `js.Request` given by other callers is made a Request.
    """

    @functools.wraps(func)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        if args and isinstance(args[0], JsRequest):
            return func(args[0].request, *args[1:], **kwargs)  # type: ignore[arg-type]
        return func(*args, **kwargs)

    return wrapper
