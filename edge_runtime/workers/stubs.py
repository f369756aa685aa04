"""Stubs: what a caller holds of a function or object that is called by RPC, and what holds for all such calls.

A stub is released when the event that got it ends, or when it is disposed of; a `dup` taken inside an object lasts as
long as the object is in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, ClassVar, Final, Self

from edge_runtime.event import EventContext, current_event, require_event
from edge_runtime.promise import Promise
from edge_runtime.workers.js_object import JsException
from edge_runtime.workers.lending import Target
from edge_runtime.workers.request import Request

DISPOSED: Final = "RPC stub used after being disposed."


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


def count_subrequest(event: EventContext) -> Exception | None:
    """Count a subrequest; the refusal if there were too many."""
    if event.subrequests_max is not None and event.meter.subrequests >= event.subrequests_max:
        return JsException("Too many API requests by single worker invocation.")
    event.meter.count_subrequest()
    return None


class Stub(GatedSends):
    """A function or object that arrived by RPC.

    Calling it, or a method of it, sends the arguments over and returns a promise of the result; calls arrive in the
    order in which they were made. `fetch` is called with what `Request` takes.

    How arguments and results are converted is given by the class that `conversion` derives, whose objects it finds and
    makes inside them.
    """

    __slots__ = ("__weakref__", "_disposed", "_target")

    _to_wire_args: ClassVar[staticmethod[[tuple[Any, ...], dict[str, Any]], list[Any]]]
    _received: ClassVar[staticmethod[[EventContext, Any], Any]]

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
        event = require_event("stub.fetch()")
        try:
            request = Request(resource, **{**(init or {}), **options})
        except (TypeError, ValueError) as error:
            return Promise.rejected(error)
        return self._send(event, lambda: self._target.fetch(request))

    def _invoke(self, method: str | None, args: tuple[Any, ...], options: dict[str, Any]) -> Promise[Any]:
        event = require_event("a function received by RPC")
        try:
            plain = self._to_wire_args(args, options)
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
                promise.resolve(self._received(event, reply.result()))

        self._send_out(event, send).add_done_callback(convert)
        return promise

    def dup(self) -> Stub:
        """A stub of its own for the same target. Inside an object it outlives the event: it is released with it, or
        when the object leaves memory."""
        if self._disposed:
            raise JsException(DISPOSED)
        event = current_event.get()
        if event is None or event.actor is None:
            return self._another()
        token = current_event.set(None)
        try:
            copy = self._another()
        finally:
            current_event.reset(token)
        event.actor.closed.add_done_callback(lambda _: copy.dispose())
        return copy

    def _another(self) -> Stub:
        """A stub of the plain kind for the same target."""
        raise AssertionError("given by the derived class")

    def dispose(self) -> None:
        """Release what the stub leads to; it cannot be called any more."""
        if not self._disposed:
            self._disposed = True
            self._target.release()

    def _rpc_target(self) -> Target:
        if self._disposed:
            raise JsException(DISPOSED)
        return self._target

    def __enter__(self) -> Self:
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
