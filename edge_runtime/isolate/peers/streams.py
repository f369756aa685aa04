"""Bodies on their way between two isolates: pieces forwards, credit backwards, so that a slow reader slows its writer
and nothing piles up in between."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import count

import trio

from edge_runtime.errors import WireError
from edge_runtime.frames import Message
from edge_runtime.isolate.peers.frames import Piece, StreamCancelled, StreamCredit, StreamEnded
from edge_runtime.limits import BODY_CHUNK, PEER_WINDOW
from edge_runtime.workers.js_object import JsException
from edge_runtime.workers.streams import ReadableStream

CUT_OFF = "Network connection lost."


class _Outgoing:
    __slots__ = ("credit", "scope", "wanted")

    def __init__(self) -> None:
        self.credit = PEER_WINDOW
        self.wanted = trio.Event()
        self.scope = trio.CancelScope()


class _Incoming:
    """What arrived of a stream and was not read yet."""

    def __init__(self, number: int, post: Callable[[Message], None]) -> None:
        self.number = number
        self.pieces: deque[bytes] = deque()
        self.size = 0
        self.ended = False
        self.error: str | None = None
        self.arrived = trio.Event()
        self._post = post

    def settle(self) -> None:
        self.arrived.set()
        self.arrived = trio.Event()

    async def receive(self) -> bytes | None:
        while not self.pieces:
            if self.error is not None:
                raise JsException(self.error)
            if self.ended:
                return None
            await self.arrived.wait()
        piece = self.pieces.popleft()
        self.size -= len(piece)
        if not self.ended:
            self._post(StreamCredit(self.number, len(piece)))
        return piece

    def cancel(self) -> None:
        self.pieces.clear()
        if not self.ended:
            self.ended = True
            self._post(StreamCancelled(self.number))


class _Reading:
    """The reader's end of a stream; when nobody has it any more, the stream is cancelled."""

    def __init__(self, incoming: _Incoming) -> None:
        self._incoming = incoming
        self._token = trio.lowlevel.current_trio_token()

    async def receive(self) -> bytes | None:
        return await self._incoming.receive()

    async def close(self) -> None:
        self._incoming.cancel()

    def __del__(self) -> None:
        if not self._incoming.ended:
            # The collector may run in any thread.
            try:
                self._token.run_sync_soon(self._incoming.cancel)
            except trio.RunFinishedError:
                return


class PeerStreams:
    """The streams of one link, both ways."""

    def __init__(self, post: Callable[[Message], None], nursery: trio.Nursery) -> None:
        self._post = post
        self._nursery = nursery
        self._numbers = count(1)
        self._outgoing: dict[int, _Outgoing] = {}
        self._incoming: dict[int, _Incoming] = {}

    def send(self, stream: ReadableStream) -> int:
        """Begin to send a stream; returns its number."""
        number = next(self._numbers)
        out = self._outgoing[number] = _Outgoing()
        self._nursery.start_soon(self._send, number, out, stream)
        return number

    async def _send(self, number: int, out: _Outgoing, stream: ReadableStream) -> None:
        error: str | None = CUT_OFF

        async def write(piece: bytes) -> None:
            for at in range(0, len(piece), BODY_CHUNK):
                part = piece[at : at + BODY_CHUNK]
                while out.credit <= 0:
                    out.wanted = trio.Event()
                    await out.wanted.wait()
                out.credit -= len(part)
                self._post(Piece(number, bytes(part)))

        try:
            with out.scope:
                await stream.write_to(write)
                error = None
        except Exception as failure:
            error = str(failure) or type(failure).__name__
        finally:
            del self._outgoing[number]
            self._post(StreamEnded(number, error))

    def receive(self, number: int) -> ReadableStream:
        """The stream that the other side sends under this number."""
        if number in self._incoming:
            raise WireError(f"the stream {number} was announced twice")
        incoming = self._incoming[number] = _Incoming(number, self._post)
        reading = _Reading(incoming)
        return ReadableStream.of_receive(reading.receive, reading.close)

    def take(self, frame: Piece | StreamEnded | StreamCredit | StreamCancelled) -> None:
        match frame:
            case Piece(stream=number, data=data):
                incoming = self._known(number)
                if not incoming.ended:
                    incoming.size += len(data)
                    if incoming.size > PEER_WINDOW + BODY_CHUNK:
                        raise WireError(f"stream {number}: more came than its window allows")
                    incoming.pieces.append(data)
                    incoming.settle()
            case StreamEnded(stream=number, error=error):
                incoming = self._known(number)
                del self._incoming[number]
                if not incoming.ended:
                    incoming.ended, incoming.error = True, error
                    incoming.settle()
            case StreamCredit(stream=number, size=size):
                out = self._outgoing.get(number)
                if out is not None:
                    out.credit = min(PEER_WINDOW, out.credit + max(0, size))
                    out.wanted.set()
            case StreamCancelled(stream=number):
                out = self._outgoing.get(number)
                if out is not None:
                    out.scope.cancel()

    def _known(self, number: int) -> _Incoming:
        incoming = self._incoming.get(number)
        if incoming is None:
            raise WireError(f"there is no stream {number}")
        return incoming

    def lost(self) -> None:
        """The other side is gone."""
        for incoming in self._incoming.values():
            if not incoming.ended:
                incoming.ended, incoming.error = True, CUT_OFF
                incoming.settle()
        self._incoming.clear()
        for out in self._outgoing.values():
            out.scope.cancel()
