"""The caller's handle to an object, which may not be loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from bindings.durable_objects.messages import FetchCall, RpcCall
from edge_runtime.actors.api import ActorAddress, ActorHost
from edge_runtime.actors.ids import DurableObjectId
from edge_runtime.errors import ActorBroken
from edge_runtime.event import EventContext, require_event
from edge_runtime.promise import Promise
from edge_runtime.workers.conversion import to_wire_args
from edge_runtime.workers.js_object import JsException
from edge_runtime.workers.request import Request
from edge_runtime.workers.response import Response

RESERVED: Final = frozenset(
    {"alarm", "connect", "constructor", "dup", "webSocketClose", "webSocketError", "webSocketMessage"}
)
"""Names that cannot be called over RPC, besides `fetch`, which is not an RPC method."""


class DurableObjectStub:
    """Calls to one object. `stub.anything(*args)` calls the object's method of that name and returns a promise.

    Calls on one stub are delivered in the order they were made; replies may come in any order. Keyword arguments
    arrive as one trailing dict. After a call has failed because the object was reset, every later one fails with the
    same error: get a new stub. Within an object, calls wait at its output gate.
    """

    __slots__ = ("_address", "_broken", "_held", "_host", "id")

    def __init__(self, host: ActorHost, address: ActorAddress, id: DurableObjectId) -> None:
        self._host = host
        self._address = address
        self._broken: ActorBroken | None = None
        self._held = 0
        """Calls that wait at the caller's output gate."""
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
        return self._send("stub.fetch()", FetchCall(request))

    def _call(self, method: str, *args: Any, **options: Any) -> Promise[Any]:
        if method in RESERVED:
            return Promise.rejected(TypeError(f"'{method}' is a reserved method and cannot be called over RPC."))
        try:
            call = RpcCall(method, to_wire_args(args, options))
        except (TypeError, ValueError, JsException) as error:
            return Promise.rejected(error)
        return self._send(f"stub.{method}()", call)

    def _send(self, what: str, message: object) -> Promise[Any]:
        event = require_event(what)
        if self._broken is not None:
            return Promise.rejected(self._broken.again())
        if refusal := _count(event):
            return Promise.rejected(refusal)
        if event.actor is not None and (self._held or not event.actor.durable):
            return self._send_when_durable(event.actor.when_durable(), message)
        return self._deliver(message)

    def _deliver(self, message: object) -> Promise[Any]:
        reply = self._host.deliver(self._address, message, name=self.id.name)
        reply.add_done_callback(self._replied)
        return reply

    def _send_when_durable(self, gate: Promise[None], message: object) -> Promise[Any]:
        """Let the call out of the calling object once what that wrote before is durable."""
        promise: Promise[Any] = Promise()
        self._held += 1

        def pass_on(reply: Promise[Any]) -> None:
            if reply.error is not None:
                promise.reject(reply.error)
            else:
                promise.resolve(reply.result())

        def send(gate: Promise[None]) -> None:
            self._held -= 1
            if gate.error is not None:
                promise.reject(gate.error)
            elif self._broken is not None:
                promise.reject(self._broken.again())
            else:
                self._deliver(message).add_done_callback(pass_on)

        gate.add_done_callback(send)
        return promise

    def _replied(self, reply: Promise[Any]) -> None:
        error = reply.error
        if self._broken is None and isinstance(error, ActorBroken) and error.durableObjectReset:
            self._broken = error

    def __repr__(self) -> str:
        return f"<DurableObjectStub {self._address.namespace} {self.id!r}>"


def _count(event: EventContext) -> Exception | None:
    """Count a subrequest; the refusal if there were too many."""
    if event.subrequests_max is not None and event.meter.subrequests >= event.subrequests_max:
        return JsException("Too many API requests by single worker invocation.")
    event.meter.subrequests += 1
    return None
