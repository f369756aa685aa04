"""The caller's handle to an object, which may not be loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from bindings.durable_objects.messages import FetchCall, RpcCall
from edge_runtime.actors.api import ActorAddress, ActorHost
from edge_runtime.actors.ids import DurableObjectId
from edge_runtime.errors import ActorBroken, ConnectionLost
from edge_runtime.event import EventContext, current_event, require_event
from edge_runtime.promise import Promise
from edge_runtime.workers.conversion import received, to_wire_args
from edge_runtime.workers.js_object import JsException
from edge_runtime.workers.lending import Target
from edge_runtime.workers.request import Request
from edge_runtime.workers.response import Response
from edge_runtime.workers.stubs import GatedSends, count_subrequest

RESERVED: Final = frozenset(
    {"alarm", "connect", "constructor", "dup", "webSocketClose", "webSocketError", "webSocketMessage"}
)
"""Names that cannot be called over RPC, besides `fetch`, which is not an RPC method."""


class DurableObjectStub(GatedSends):
    """Calls to one object. `stub.anything(*args)` calls the object's method of that name and returns a promise.

    Calls on one stub are delivered in the order they were made; replies may come in any order. Keyword arguments
    arrive as one trailing dict. After a call has failed because the object was reset, every later one fails with the
    same error: get a new stub. Within an object, calls wait at its output gate.
    """

    __slots__ = ("_address", "_broken", "_host", "id")

    def __init__(self, host: ActorHost, address: ActorAddress, id: DurableObjectId) -> None:
        super().__init__()
        self._host = host
        self._address = address
        self._broken: ActorBroken | None = None
        self.id = id

    @property
    def name(self) -> str | None:
        """The name the object's id was made from, if it was."""
        return self.id.name

    def __getattr__(self, name: str) -> Callable[..., Promise[Any]]:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return partial(self._call, name)

    def fetch(
        self, resource: str | Request, init: Mapping[str, Any] | None = None, **options: Any
    ) -> Promise[Response]:
        """Send a request to the object's fetch handler; options as for `Request`.

        Bodies are streamed in both directions. Rejects with what the handler raised.
        """
        try:
            if init:
                options = {**init, **options}
            request = resource if isinstance(resource, Request) and not options else Request(resource, **options)
        except (TypeError, ValueError) as error:
            return Promise.rejected(error)
        return self._send(require_event("stub.fetch()"), FetchCall(request))

    def _call(self, method: str, *args: Any, **options: Any) -> Promise[Any]:
        if method in RESERVED:
            return Promise.rejected(reserved(method))
        event = current_event.get() or require_event(f"stub.{method}()")
        # A reply that is stored and given again is in plain form.
        caller = event if event.transaction is None else None
        try:
            call = RpcCall(method, to_wire_args(args, options) if args or options else [], caller)
        except (TypeError, ValueError, JsException) as error:
            return Promise.rejected(error)
        return self._send(event, call)

    def _send(self, event: EventContext, message: object) -> Promise[Any]:
        if self._broken is not None:
            return Promise.rejected(self._broken.again())
        if refusal := count_subrequest(event):
            return Promise.rejected(refusal)
        if event.transaction is not None:
            return self._send_once(event, message)
        if event.actor is None or (not self._held and event.actor.durable):
            return self._deliver(message, None)
        return self._send_out(event, lambda: self._deliver(message, None))

    def _send_once(self, event: EventContext, message: object) -> Promise[Any]:
        """A call that belongs to a transaction: the object answers it once."""
        if not isinstance(message, RpcCall):
            text = "stub.fetch() cannot be part of a transaction; call a method of the object"
            return Promise.rejected(TypeError(text))
        address = self._address
        identity = event.transaction.call(address.worker, address.namespace, address.id, message.method)
        promise: Promise[Any] = Promise()

        def replied(reply: Promise[Any]) -> None:
            if reply.error is not None:
                promise.reject(reply.error)
            else:
                promise.resolve(received(event, reply.result()))

        self._send_out(event, lambda: self._deliver(message, identity)).add_done_callback(replied)
        return promise

    def _deliver(self, message: object, identity: bytes | None) -> Promise[Any]:
        if self._broken is not None:
            return Promise.rejected(self._broken.again())
        reply = self._host.deliver(self._address, message, name=self.id.name, identity=identity)
        reply.add_done_callback(self._replied)
        return reply

    def _replied(self, reply: Promise[Any]) -> None:
        error = reply.error
        if error is None:
            return
        if getattr(error, "remote", False):
            flags = vars(error)
            flags["durableObjectId"] = self.id.toString()
            for flag in ("retryable", "overloaded", "durableObjectReset"):
                flags.setdefault(flag, False)
        lost = isinstance(error, ConnectionLost)
        if self._broken is None and isinstance(error, ActorBroken) and (lost or error.durableObjectReset):
            self._broken = error

    def _rpc_target(self) -> Target:
        return _StubTarget(self._host, self._address, self.id.name)

    def __repr__(self) -> str:
        return f"<DurableObjectStub {self._address.namespace} {self.id!r}>"


class _StubTarget:
    """What a Durable Object's stub leads to when it is passed on itself; `id` and `name` do not go along."""

    def __init__(self, host: ActorHost, address: ActorAddress, name: str | None) -> None:
        self._host = host
        self._address = address
        self._name = name

    def invoke(self, method: str | None, args: list[Any]) -> Promise[Any]:
        if method is None:
            return Promise.rejected(TypeError("The RPC receiver is not a function."))
        if method in RESERVED:
            return Promise.rejected(reserved(method))
        return self._host.deliver(self._address, RpcCall(method, args), name=self._name)

    def fetch(self, request: Any) -> Promise[Any]:
        return self._host.deliver(self._address, FetchCall(request), name=self._name)

    def hold(self) -> None:
        """The object is there whether or not a stub is."""

    release = hold


def reserved(method: str) -> TypeError:
    return TypeError(f"'{method}' is a reserved method and cannot be called over RPC.")
