"""Calls between workers and objects: functions and objects passed by reference, and errors as the caller sees them.

Whoever passes a function or an RpcTarget lends it: the other side gets a stub. The stub is released when the event
that got it ends, or when it is disposed of; a `dup` taken inside an object lasts as long as the object is in memory.
The event that lent it stays open meanwhile, as long as for `waitUntil`.
"""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Final, Protocol, cast

from edge_runtime.event import EventContext, current_event, require_event
from edge_runtime.promise import Promise
from edge_runtime.workers.conversion import from_wire, python_from_rpc, python_to_rpc, to_wire_args, to_wire_result
from edge_runtime.workers.exports import rpc_methods
from edge_runtime.workers.js_object import JsException
from edge_runtime.workers.js_values import JsDict
from edge_runtime.workers.workflows import NonRetryableError

__all__ = ["JsDict", "RpcStub", "RpcTarget", "python_from_rpc", "python_to_rpc", "remote_error"]

DISPOSED: Final = "RPC stub used after being disposed."
OWNER_ENDED: Final = "The execution context which this RPC stub leads to has ended."


class RpcTarget:
    """Base of classes whose objects are passed by reference; callers may call their public methods."""


class Target(Protocol):
    """What a stub leads to, here or in another isolate. Arguments and results are in plain form."""

    def invoke(self, method: str | None, args: list[Any]) -> Promise[Any]:
        """Call a method, or the function itself. Calls begin in the order in which they were made."""

    def fetch(self, request: Any) -> Promise[Any]: ...

    def hold(self) -> None: ...

    def release(self) -> None:
        """There is one holder less."""


class Lent:
    """`Target` of a function or object of this isolate. Its code runs in the event that lent it."""

    def __init__(self, value: Any, event: EventContext | None) -> None:
        self._value = value
        self._event = event
        self._holders = 0
        self._unheld: Promise[None] | None = None
        self._over = False
        self._waiting: deque[tuple[EventContext, str | None, list[Any], Promise[Any]]] = deque()
        self._beginning = False

    def hold(self) -> None:
        self._holders += 1
        if self._unheld is None and self._event is not None:
            self._unheld = Promise()
            self._event.lend(self._unheld, self._end)

    def release(self) -> None:
        self._holders -= 1
        if not self._holders and self._unheld is not None:
            unheld, self._unheld = self._unheld, None
            unheld.resolve(None)

    def _end(self) -> None:
        self._over = True
        while self._waiting:
            self._waiting.popleft()[3].reject(JsException(OWNER_ENDED))

    def invoke(self, method: str | None, args: list[Any]) -> Promise[Any]:
        if self._over:
            return Promise.rejected(JsException(OWNER_ENDED))
        promise: Promise[Any] = Promise()
        event = self._event or require_event("a function received by RPC")
        self._waiting.append((event, method, args, promise))
        if not self._beginning:
            self._begin_next()
        return promise

    def fetch(self, request: Any) -> Promise[Any]:
        return self.invoke("fetch", [request])

    def _begin_next(self) -> None:
        self._beginning = bool(self._waiting)
        if self._waiting:
            event, method, args, promise = self._waiting.popleft()
            event.spawn(self._run, event, method, args, promise)

    async def _run(self, event: EventContext, method: str | None, args: list[Any], promise: Promise[Any]) -> None:
        try:
            if event.guard is not None:
                await event.guard.input_open()
            # The next one begins when this one has given up control.
            self._begin_next()
            result = await event.run(self._call, event, method, args)
            if event.actor is not None:
                await event.actor.wait_durable()
            if not promise.settled:
                promise.resolve(result)
        except Exception as error:
            if not promise.settled:
                promise.reject(remote_error(error))
        finally:
            if not promise.settled:
                promise.reject(JsException(OWNER_ENDED))

    async def _call(self, event: EventContext, method: str | None, args: list[Any]) -> Any:
        call = _call_plainly if event.guard is None else event.guard.call
        result = call(self._function(method), *map(from_wire, args))
        if hasattr(result, "__await__"):
            result = await result
        return to_wire_result(result)

    def _function(self, method: str | None) -> Callable[..., Any]:
        value = self._value
        if method is None and not isinstance(value, RpcTarget):
            function: Callable[..., Any] = value
            return function
        if isinstance(value, RpcTarget) and method in (*rpc_methods(cast(Hashable, type(value))), "fetch"):
            found: Callable[..., Any] | None = getattr(value, method, None)
            if found is not None:
                return found
        raise TypeError("The RPC receiver is not a function." if method is None else f"Method {method} does not exist")


def _call_plainly(fn: Callable[..., Any], *args: Any) -> Any:
    return fn(*args)


def lend(value: Any) -> Target:
    """The target of a function or RpcTarget that the current event passes on."""
    return Lent(value, current_event.get())


class GatedSends:
    """Lets calls out of the calling object once what it wrote before is durable, in the order they were made."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = 0
        """Calls that wait at the caller's output gate."""

    def _send_out(self, event: EventContext, send: Callable[[], Promise[Any]]) -> Promise[Any]:
        if event.actor is None or (not self._held and event.actor.durable):
            return send()
        promise: Promise[Any] = Promise()
        self._held += 1

        def open_gate(gate: Promise[None]) -> None:
            self._held -= 1
            if gate.error is not None:
                promise.reject(gate.error)
            else:
                send().add_done_callback(partial(pass_on, promise))

        event.actor.when_durable().add_done_callback(open_gate)
        return promise


def pass_on(promise: Promise[Any], reply: Promise[Any]) -> None:
    """Settle `promise` as `reply` was."""
    if reply.error is not None:
        promise.reject(reply.error)
    else:
        promise.resolve(reply.result())


def received(event: EventContext, plain: Any) -> Any:
    """What a script gets of a result that arrived in `event`."""
    token = current_event.set(event)
    try:
        return from_wire(plain)
    finally:
        current_event.reset(token)


def count_subrequest(event: EventContext) -> Exception | None:
    """Count a subrequest; the refusal if there were too many."""
    if event.subrequests_max is not None and event.meter.subrequests >= event.subrequests_max:
        return JsException("Too many API requests by single worker invocation.")
    event.meter.count_subrequest()
    return None


class RpcStub(GatedSends):
    """A function or object that arrived by RPC.

    Calling it, or a method of it, sends the arguments over and returns a promise of the result; calls arrive in the
    order in which they were made. `fetch` is called with what `Request` takes.
    """

    __slots__ = ("__weakref__", "_disposed", "_target")

    def __init__(self, target: Target) -> None:
        super().__init__()
        self._target = target
        self._disposed = False
        target.hold()
        event = current_event.get()
        if event is not None:
            event.at_end(self.dispose)

    def __call__(self, *args: Any, **options: Any) -> Promise[Any]:
        return self._invoke(None, args, options)

    def __getattr__(self, name: str) -> Callable[..., Promise[Any]]:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return lambda *args, **options: self._invoke(name, args, options)

    def fetch(self, resource: Any, init: Mapping[str, Any] | None = None, **options: Any) -> Promise[Any]:
        from edge_runtime.workers.request import Request

        event = require_event("stub.fetch()")
        try:
            request = Request(resource, **{**(init or {}), **options})
        except (TypeError, ValueError) as error:
            return Promise.rejected(error)
        return self._send(event, lambda: self._target.fetch(request))

    def _invoke(self, method: str | None, args: tuple[Any, ...], options: dict[str, Any]) -> Promise[Any]:
        event = require_event("a function received by RPC")
        try:
            plain = to_wire_args(args, options)
        except (TypeError, ValueError, JsException) as error:
            return Promise.rejected(error)
        return self._send(event, lambda: self._target.invoke(method, plain))

    def _send(self, event: EventContext, send: Callable[[], Promise[Any]]) -> Promise[Any]:
        if self._disposed:
            return Promise.rejected(JsException(DISPOSED))
        if refusal := count_subrequest(event):
            return Promise.rejected(refusal)
        promise: Promise[Any] = Promise()

        def convert(reply: Promise[Any]) -> None:
            if reply.error is not None:
                promise.reject(reply.error)
            else:
                promise.resolve(received(event, reply.result()))

        self._send_out(event, send).add_done_callback(convert)
        return promise

    def dup(self) -> RpcStub:
        """A stub of its own for the same target. Inside an object it outlives the event: it is released with it, or
        when the object leaves memory."""
        if self._disposed:
            raise JsException(DISPOSED)
        event = current_event.get()
        if event is None or event.actor is None:
            return RpcStub(self._target)
        token = current_event.set(None)
        try:
            copy = RpcStub(self._target)
        finally:
            current_event.reset(token)
        event.actor.closed.add_done_callback(lambda _: copy.dispose())
        return copy

    def dispose(self) -> None:
        """Release what the stub leads to; it cannot be called any more."""
        if not self._disposed:
            self._disposed = True
            self._target.release()

    def _rpc_target(self) -> Target:
        if self._disposed:
            raise JsException(DISPOSED)
        return self._target

    def __enter__(self) -> RpcStub:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.dispose()

    def __iter__(self) -> Any:
        raise TypeError("'RpcStub' object is not iterable")

    def __len__(self) -> int:
        raise TypeError("'RpcStub' object has no len()")

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<RpcStub of {self._target!r}>"


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
