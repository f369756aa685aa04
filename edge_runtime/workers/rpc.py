"""Calls between workers and objects: functions sent along, and errors as the caller sees them."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

from edge_runtime.event import EventContext, require_event
from edge_runtime.promise import Promise
from edge_runtime.workers.conversion import from_wire, python_from_rpc, python_to_rpc, to_wire, to_wire_args
from edge_runtime.workers.js_object import JsException
from edge_runtime.workers.js_values import JsDict
from edge_runtime.workers.workflows import NonRetryableError

__all__ = ["JsDict", "RpcStub", "python_from_rpc", "python_to_rpc", "remote_error"]


class RpcStub:
    """A function that arrived by RPC. Calling it sends the arguments over and returns a promise of the result."""

    __slots__ = ("_target",)

    def __init__(self, target: Callable[..., Any]) -> None:
        self._target = target

    def __call__(self, *args: Any, **options: Any) -> Promise[Any]:
        event = require_event("a function received by RPC")
        return event.spawn(self._run, event, to_wire_args(args, options))

    async def _run(self, event: EventContext, args: list[Any]) -> Any:
        try:
            result = await event.run(self._target, *map(from_wire, args))
        except Exception as error:
            raise remote_error(error) from error
        return from_wire(to_wire(result))

    def dup(self) -> RpcStub:
        return RpcStub(self._target)

    def __iter__(self) -> Any:
        raise TypeError("'RpcStub' object is not iterable")

    def __len__(self) -> int:
        raise TypeError("'RpcStub' object has no len()")

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<RpcStub of {getattr(self._target, '__name__', self._target)!r}>"


def remote_error(error: BaseException) -> Exception:
    """The error as the other side of an RPC call sees it, with `.remote` set.

    TypeError, ValueError and NonRetryableError keep their class and message; errors that JavaScript would have thrown
    stay what they are; of any other only the traceback text arrives, as on Cloudflare.
    """
    seen: Exception
    if isinstance(error, JsException):
        seen = JsException(error.message, error.name)
        seen.__dict__.update(error.__dict__)
    else:
        for kept in (NonRetryableError, TypeError, ValueError):
            if isinstance(error, kept):
                seen = kept(str(error))
                break
        else:
            lines = traceback.format_exception(type(error), error, error.__traceback__)
            seen = JsException("".join(lines), "PythonError")
    setattr(seen, "remote", True)  # noqa: B010 - an attribute that no class here declares
    return seen
