"""Calls that the other isolate makes over a link: whom they reach here, and how they are answered."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from bindings.durable_objects.messages import FetchCall, RpcCall
from edge_runtime.actors.api import ActorAddress, ActorKind
from edge_runtime.actors.ids import is_object_id
from edge_runtime.errors import EdgeError, WireError
from edge_runtime.frames import Message
from edge_runtime.isolate.peers.frames import Addressed, CallCron, CallFetch, CallMethod, Moved, Responded, Returned
from edge_runtime.isolate.peers.made_calls import MovedAway
from edge_runtime.isolate.peers.values import (
    Ends,
    pack,
    pack_error,
    pack_response,
    unpack_arguments,
    unpack_request,
)
from edge_runtime.promise import Promise
from edge_runtime.workers.response import FetchResponse


class Receiver(Protocol):
    """Where calls from other isolates go."""

    def received(
        self, address: ActorAddress, message: object, name: str | None, view: int, identity: bytes | None
    ) -> Promise[object]:
        """Deliver a call that was sent here by view `view`. Rejects with MovedAway if it will not begin here."""


class ReceivedCalls:
    def __init__(self, ends: Ends, receiver: Receiver, post: Callable[[Message], None]) -> None:
        """`post` sends to the other isolate."""
        self._ends = ends
        self._receiver = receiver
        self._post = post
        self._open: set[int] = set()
        self._lost = False

    def take(self, frame: Addressed) -> None:
        """A call of an actor has come."""
        if frame.actor is ActorKind.OBJECT and not is_object_id(frame.id):
            raise WireError(f"{frame.id[:80]!r} is no id of an object")
        message: object
        identity: bytes | None = None
        match frame:
            case CallMethod(actor=ActorKind.OBJECT, method=method, args=args):
                identity = frame.identity
                message = RpcCall(method, unpack_arguments(args, self._ends))
            case CallFetch(actor=ActorKind.OBJECT, request=request):
                message = FetchCall(unpack_request(request, self._ends))
            case CallCron(actor=ActorKind.CRON, scheduled_ms=scheduled_ms):
                message = scheduled_ms
            case _:
                raise WireError(f"a {type(frame).__name__} came for a {frame.actor}")
        self.answer(frame.call, self._receiver.received(frame.address, message, frame.name, frame.view, identity))

    def answer(self, number: int, reply: Promise[Any]) -> None:
        """Send the reply to call `number` once it is there."""
        if number in self._open:
            raise WireError(f"call {number} was made twice")
        self._open.add(number)
        reply.add_done_callback(partial(self._answered, number))

    def _answered(self, number: int, reply: Promise[Any]) -> None:
        self._open.discard(number)
        if self._lost:
            return
        error = reply.error
        if error is None:
            value = reply.result()
            try:
                if isinstance(value, FetchResponse):
                    self._post(Responded(number, pack_response(value, self._ends)))
                else:
                    self._post(Returned(number, pack(value, self._ends)))
                return
            except Exception as failure:
                error = failure
                if not isinstance(failure, EdgeError):
                    failure.__dict__["remote"] = True
        if isinstance(error, MovedAway):
            self._post(Moved(number, error.view))
        else:
            self._post(pack_error(number, error))

    def lost(self) -> None:
        """Nobody waits for answers any more."""
        self._lost = True
