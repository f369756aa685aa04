"""Calls that this isolate makes over a link, until each is answered."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any, Final

from bindings.durable_objects.messages import FetchCall, RpcCall
from edge_runtime.actors.api import ActorAddress
from edge_runtime.errors import ActorBroken, ConnectionLost, WireError
from edge_runtime.frames import Message
from edge_runtime.isolate.peers.frames import CallCron, CallFetch, CallMethod
from edge_runtime.isolate.peers.values import Ends, pack, pack_request
from edge_runtime.limits import PEER_QUEUE_MAX
from edge_runtime.promise import Promise
from edge_runtime.wire import Channel

TOO_MUCH_DATA: Final = "Durable Object is overloaded. Too much data queued."


class MovedAway(Exception):
    """A call was not begun, because by view `view` its actor lives elsewhere."""

    def __init__(self, view: int) -> None:
        self.view = view
        super().__init__(view)


class MadeCalls:
    def __init__(self, ends: Ends, channel: Channel, post: Callable[[Message], None]) -> None:
        """`post` sends over `channel`."""
        self._ends = ends
        self._channel = channel
        self._post = post
        self._numbers = count(1)
        self._open: dict[int, Promise[Any]] = {}
        self._lost = False

    def call(
        self, address: ActorAddress, message: object, name: str | None, view: int, identity: bytes | None = None
    ) -> Promise[Any]:
        """Send a message to an actor there. The reply is in plain form.

        Rejects with MovedAway if it was not begun, with ConnectionLost if nobody knows, else with the actor's error.
        """
        head = (view, address.worker, address.kind, address.namespace, address.id, name)
        ends = self._ends
        if isinstance(message, RpcCall):
            return self.ask(
                lambda n: CallMethod(n, *head, method=message.method, args=pack(message.args, ends), identity=identity)
            )
        if isinstance(message, FetchCall):
            return self.ask(lambda n: CallFetch(n, *head, request=pack_request(message.request, ends)))
        if isinstance(message, int):
            return self.ask(lambda n: CallCron(n, *head, scheduled_ms=message))
        # It belongs to something that this isolate holds and the actor lost when it moved.
        return Promise.rejected(ConnectionLost())

    def ask(self, make: Callable[[int], Message]) -> Promise[Any]:
        """Send the frame that `make` makes for the call's number; the promise is kept when its answer comes."""
        if self._lost:
            return Promise.rejected(ConnectionLost())
        if self._channel.unsent_size > PEER_QUEUE_MAX:
            return Promise.rejected(ActorBroken(TOO_MUCH_DATA, retryable=False, overloaded=True, reset=False))
        number = next(self._numbers)
        try:
            frame = make(number)
        except Exception as error:
            return Promise.rejected(error)
        promise: Promise[Any] = Promise()
        self._open[number] = promise
        self._post(frame)
        return promise

    def resolve(self, number: int, make: Callable[[], Any]) -> None:
        """The call was answered; `make` makes its result, or raises WireError."""
        promise = self._answered(number)
        try:
            value = make()
        except WireError:
            promise.reject(ConnectionLost())
            raise
        promise.resolve(value)

    def reject(self, number: int, error: BaseException) -> None:
        self._answered(number).reject(error)

    def _answered(self, number: int) -> Promise[Any]:
        promise = self._open.pop(number, None)
        if promise is None:
            raise WireError(f"an answer came to call {number}, which nobody made")
        return promise

    def lost(self) -> None:
        """Nothing can be sent any more, and no answer comes."""
        self._lost = True
        calls, self._open = self._open, {}
        for promise in calls.values():
            promise.reject(ConnectionLost())
