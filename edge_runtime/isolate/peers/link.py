"""A connection to one other isolate: calls both ways, streams, stubs.

Frames are read and acted on in the order in which they were sent, so calls begin in that order. What comes is hostile
input: a violation closes the link, as does the other isolate's end; then calls that are under way fail with
"Network connection lost."
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any, Final, Protocol

import trio

from bindings.durable_objects.messages import FetchCall, RpcCall
from edge_runtime.actors.activation import OVERLOADED
from edge_runtime.actors.api import ActorAddress, ActorKind
from edge_runtime.actors.ids import is_object_id
from edge_runtime.errors import ActorBroken, ConnectionLost, EdgeError, WireError
from edge_runtime.frames import Message
from edge_runtime.isolate.peers.frames import (
    FRAMES,
    Addressed,
    CallCron,
    CallFetch,
    CallMethod,
    CallStub,
    Failed,
    FetchStub,
    Hello,
    Moved,
    Piece,
    Responded,
    Returned,
    SocketClosed,
    SocketHandled,
    SocketLost,
    SocketMessage,
    StreamCancelled,
    StreamCredit,
    StreamEnded,
    StubReleased,
)
from edge_runtime.isolate.peers.sockets import PeerSockets
from edge_runtime.isolate.peers.streams import PeerStreams
from edge_runtime.isolate.peers.stubs import BorrowedStub, LentStubs
from edge_runtime.isolate.peers.values import (
    pack,
    pack_error,
    pack_request,
    pack_response,
    unpack,
    unpack_error,
    unpack_request,
    unpack_response,
)
from edge_runtime.limits import PEER_FRAME_MAX, PEER_QUEUE_MAX, PEER_UNSENT_MAX
from edge_runtime.promise import Promise
from edge_runtime.wire import Channel
from edge_runtime.workers.lending import Target
from edge_runtime.workers.response import FetchResponse
from edge_runtime.workers.streams import ReadableStream
from edge_runtime.workers.websocket import WebSocket
from edge_runtime.workers.websocket_recipient import SocketFlags

_log = logging.getLogger("edge.peers")

TOO_MUCH_DATA: Final = "Durable Object is overloaded. Too much data queued."


class MovedAway(Exception):
    """A call was not begun, because by view `view` its actor lives elsewhere."""

    def __init__(self, view: int) -> None:
        self.view = view
        super().__init__(view)


class Receiver(Protocol):
    """Where calls from other isolates go."""

    def received(
        self, address: ActorAddress, message: object, name: str | None, view: int, identity: bytes | None
    ) -> Promise[object]:
        """Deliver a call that was sent here by view `view`. Rejects with MovedAway if it will not begin here."""


class PeerLink:
    def __init__(
        self,
        channel: Channel,
        receiver: Receiver,
        nursery: trio.Nursery,
        flags: SocketFlags,
        greeted: Callable[[], None] = lambda: None,
    ) -> None:
        """`channel` must receive `peers.frames.FRAMES`; see `open_channel`. `greeted()` is called when the other side
        has said that it is there; a call that is made earlier may be lost without having been read."""
        self._greeted = greeted
        self._channel = channel
        self._receiver = receiver
        self._streams = PeerStreams(self.post, nursery)
        self._sockets = PeerSockets(self.post, flags)
        self._stubs = LentStubs()
        self._numbers = count(1)
        self._calls: dict[int, Promise[Any]] = {}
        self._answering: set[int] = set()
        self._unsent = trio.Event()
        self.lost = False
        """No call can be made any more."""

    def greet(self) -> None:
        self.post(Hello())

    async def run(self) -> None:
        """Serve the link until the other side is gone or sends what is no message."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._flush)
                await self._read()
                nursery.cancel_scope.cancel()
        finally:
            self._lose()

    async def _read(self) -> None:
        try:
            while (messages := await self._channel.receive_some()) is not None:
                for message in messages:
                    self._take(message)
        except WireError as error:
            _log.error("the link to another isolate is closed: %s", error)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return

    async def _flush(self) -> None:
        while True:
            await self._unsent.wait()
            self._unsent = trio.Event()
            try:
                await self._channel.flush()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return  # the reader finds out as well

    def _lose(self) -> None:
        self.lost = True
        self._channel.close()
        self._streams.lost()
        self._sockets.lost()
        calls, self._calls = self._calls, {}
        for promise in calls.values():
            promise.reject(ConnectionLost())
        self._stubs.lost()

    def post(self, frame: Message) -> None:
        """Send a frame; nothing happens if the other side is gone, which whoever waits for it will hear."""
        if self.lost:
            return
        try:
            waiting = self._channel.post(frame)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return
        if waiting:
            self._unsent.set()
            if waiting > PEER_UNSENT_MAX:
                _log.error("the link to another isolate is closed: it does not read what it is sent")
                self._channel.close()

    # Calls that this isolate makes

    def call(
        self, address: ActorAddress, message: object, name: str | None, view: int, identity: bytes | None = None
    ) -> Promise[Any]:
        """Send a message to an actor there. The reply is in plain form.

        Rejects with MovedAway if it was not begun, with ConnectionLost if nobody knows, else with the actor's error.
        """
        head = (view, address.worker, address.kind, address.namespace, address.id, name)
        if isinstance(message, RpcCall):
            return self.ask(
                lambda n: CallMethod(n, *head, method=message.method, args=pack(message.args, self), identity=identity)
            )
        if isinstance(message, FetchCall):
            return self.ask(lambda n: CallFetch(n, *head, request=pack_request(message.request, self)))
        if isinstance(message, int):
            return self.ask(lambda n: CallCron(n, *head, scheduled_ms=message))
        # It belongs to something that this isolate holds and the actor lost when it moved.
        return Promise.rejected(ConnectionLost())

    def ask(self, make: Callable[[int], Message]) -> Promise[Any]:
        if self.lost:
            return Promise.rejected(ConnectionLost())
        if self._channel.unsent_size > PEER_QUEUE_MAX:
            return Promise.rejected(ActorBroken(TOO_MUCH_DATA, retryable=False, overloaded=True, reset=False))
        number = next(self._numbers)
        try:
            frame = make(number)
        except Exception as error:
            return Promise.rejected(error)
        promise: Promise[Any] = Promise()
        self._calls[number] = promise
        self.post(frame)
        return promise

    # What `peers.values` needs

    def lend(self, target: Target) -> int:
        return self._stubs.lend(target)

    def borrow(self, number: int) -> Target:
        return BorrowedStub(self, number)

    def send_stream(self, stream: ReadableStream) -> int:
        return self._streams.send(stream)

    def receive_stream(self, number: int) -> ReadableStream:
        return self._streams.receive(number)

    def send_socket(self, socket: WebSocket) -> int:
        return self._sockets.send(socket)

    def receive_socket(self, number: int) -> WebSocket:
        return self._sockets.receive(number)

    # What comes

    def _take(self, frame: Message) -> None:
        match frame:
            case Returned(call=number, result=result):
                self._settle(number, lambda: unpack(result, self))
            case Responded(call=number, response=head):
                self._settle(number, lambda: unpack_response(head, self))
            case Failed(call=number):
                self._called(number).reject(unpack_error(frame))
            case Moved(call=number, view=view):
                self._called(number).reject(MovedAway(view))
            case Piece() | StreamEnded() | StreamCredit() | StreamCancelled():
                self._streams.take(frame)
            case SocketMessage() | SocketClosed() | SocketLost() | SocketHandled():
                self._sockets.take(frame)
            case Addressed():
                self._take_call(frame)
            case Hello():
                self._greeted()
            case CallStub(call=number, stub=stub, method=method, args=args):
                self._answer(number, self._stubs.find(stub).invoke(method, _arguments(unpack(args, self))))
            case FetchStub(call=number, stub=stub, request=request):
                self._answer(number, self._stubs.find(stub).fetch(unpack_request(request, self)))
            case StubReleased(stub=stub):
                self._stubs.given_back(stub)
            case _:
                raise WireError(f"a {type(frame).__name__} is no message between isolates")

    def _called(self, number: int) -> Promise[Any]:
        promise = self._calls.pop(number, None)
        if promise is None:
            raise WireError(f"an answer came to call {number}, which nobody made")
        return promise

    def _settle(self, number: int, make: Callable[[], Any]) -> None:
        promise = self._called(number)
        try:
            value = make()
        except WireError:
            promise.reject(ConnectionLost())
            raise
        promise.resolve(value)

    def _take_call(self, frame: Addressed) -> None:
        if frame.actor is ActorKind.OBJECT and not is_object_id(frame.id):
            raise WireError(f"{frame.id[:80]!r} is no id of an object")
        message: object
        identity: bytes | None = None
        match frame:
            case CallMethod(actor=ActorKind.OBJECT, method=method, args=args):
                identity = frame.identity
                message = RpcCall(method, _arguments(unpack(args, self)))
            case CallFetch(actor=ActorKind.OBJECT, request=request):
                message = FetchCall(unpack_request(request, self))
            case CallCron(actor=ActorKind.CRON, scheduled_ms=scheduled_ms):
                message = scheduled_ms
            case _:
                raise WireError(f"a {type(frame).__name__} came for a {frame.actor}")
        self._answer(frame.call, self._receiver.received(frame.address, message, frame.name, frame.view, identity))

    def _answer(self, number: int, reply: Promise[Any]) -> None:
        if number in self._answering:
            raise WireError(f"call {number} was made twice")
        self._answering.add(number)
        reply.add_done_callback(partial(self._answered, number))

    def _answered(self, number: int, reply: Promise[Any]) -> None:
        self._answering.discard(number)
        if self.lost:
            return
        error = reply.error
        if error is None:
            value = reply.result()
            try:
                if isinstance(value, FetchResponse):
                    self.post(Responded(number, pack_response(value, self)))
                else:
                    self.post(Returned(number, pack(value, self)))
                return
            except Exception as failure:
                error = failure
                if not isinstance(failure, EdgeError):
                    failure.__dict__["remote"] = True
        if isinstance(error, MovedAway):
            self.post(Moved(number, error.view))
        else:
            self.post(pack_error(number, error))


def _arguments(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise WireError("the arguments of a call are not a list")
    return value


def open_channel(descriptor: int) -> Channel:
    """The channel on a socket that the supervisor has passed."""
    return Channel(socket.socket(fileno=descriptor), FRAMES, PEER_FRAME_MAX)


def overloaded() -> ActorBroken:
    return ActorBroken(OVERLOADED, retryable=False, overloaded=True, reset=False)
