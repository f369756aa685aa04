"""A connection to one other isolate: its frames, and who takes each: calls both ways, streams, sockets, stubs.

Frames are read and acted on in the order in which they were sent, so calls begin in that order. What comes is hostile
input: a violation closes the link, as does the other isolate's end; then calls that are under way fail with
"Network connection lost."
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable

import trio

from edge_runtime.errors import WireError
from edge_runtime.frames import Message
from edge_runtime.isolate.peers.frames import (
    FRAMES,
    Addressed,
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
from edge_runtime.isolate.peers.made_calls import MadeCalls, MovedAway
from edge_runtime.isolate.peers.received_calls import ReceivedCalls, Receiver
from edge_runtime.isolate.peers.sockets import PeerSockets
from edge_runtime.isolate.peers.streams import PeerStreams
from edge_runtime.isolate.peers.stubs import BorrowedStub, LentStubs
from edge_runtime.isolate.peers.values import (
    unpack,
    unpack_arguments,
    unpack_error,
    unpack_request,
    unpack_response,
)
from edge_runtime.limits import PEER_FRAME_MAX, PEER_UNSENT_MAX
from edge_runtime.wire import Channel
from edge_runtime.workers.lending import Target
from edge_runtime.workers.streams import ReadableStream
from edge_runtime.workers.websocket import WebSocket
from edge_runtime.workers.websocket_recipient import SocketFlags

_log = logging.getLogger("edge.peers")


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
        self._streams = PeerStreams(self.post, nursery)
        self._sockets = PeerSockets(self.post, flags)
        self._stubs = LentStubs()
        self._made = MadeCalls(self, channel, self.post)
        self._received = ReceivedCalls(self, receiver, self.post)
        self.call = self._made.call  # calls through the link would cost a frame more
        self.ask = self._made.ask
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
        self._received.lost()
        self._channel.close()
        self._streams.lost()
        self._sockets.lost()
        self._made.lost()
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

    # `values.Ends`

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
                self._made.resolve(number, lambda: unpack(result, self))
            case Responded(call=number, response=head):
                self._made.resolve(number, lambda: unpack_response(head, self))
            case Failed(call=number):
                self._made.reject(number, unpack_error(frame))
            case Moved(call=number, view=view):
                self._made.reject(number, MovedAway(view))
            case Piece() | StreamEnded() | StreamCredit() | StreamCancelled():
                self._streams.take(frame)
            case SocketMessage() | SocketClosed() | SocketLost() | SocketHandled():
                self._sockets.take(frame)
            case Addressed():
                self._received.take(frame)
            case Hello():
                self._greeted()
            case CallStub(call=number, stub=stub, method=method, args=args):
                self._received.answer(number, self._stubs.find(stub).invoke(method, unpack_arguments(args, self)))
            case FetchStub(call=number, stub=stub, request=request):
                self._received.answer(number, self._stubs.find(stub).fetch(unpack_request(request, self)))
            case StubReleased(stub=stub):
                self._stubs.given_back(stub)
            case _:
                raise WireError(f"a {type(frame).__name__} is no message between isolates")


def open_channel(descriptor: int) -> Channel:
    """The channel on a socket that the supervisor has passed."""
    return Channel(socket.socket(fileno=descriptor), FRAMES, PEER_FRAME_MAX)
