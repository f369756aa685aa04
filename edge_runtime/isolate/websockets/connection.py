"""A connection after its upgrade: WebSocket frames on the socket, by wsproto without I/O.

The HTTP part of the connection is gone by then; an idle socket costs one task that waits to read. How frames go out:
`websockets.writer`. permessage-deflate is not offered, as on Cloudflare without its flag. Source of the frames: RFC
6455.
"""

from __future__ import annotations

import contextlib
import io
import socket
from functools import partial
from typing import Final

import trio
from wsproto.frame_protocol import CloseReason, Frame, FrameProtocol, Opcode, ParseFailed

from edge_runtime.isolate.websockets.writer import Connected, SocketWriter
from edge_runtime.limits import (
    WEBSOCKET_CLOSE_S,
    WEBSOCKET_MESSAGE_MAX,
    WEBSOCKET_PROBE_S,
    WEBSOCKET_UNHANDLED_BYTES,
    WEBSOCKET_UNHANDLED_MAX,
    WEBSOCKET_UNSENT_PAUSE,
)
from edge_runtime.workers.websocket_link import Handled, SocketReceiver

_RECEIVE_BYTES: Final = 64 * 1024
_LINGER_S: Final = 1.0
_RESTARTING: Final = 1012


class WebSocketConnection(SocketWriter):
    """`workers.websocket_link.SocketLink` on a connection, of a client or (`client`) to a server.

    Messages go to the receiver in order; reading stops while too many are unhandled, or while the peer does not take
    what is sent to it. A peer that takes nothing for WRITE_TIMEOUT_S is cut off, as is one that breaks the protocol,
    after a Close frame that says why.
    """

    def __init__(self, stream: Connected, *, client: bool = False) -> None:
        super().__init__(stream)
        self._frames = FrameProtocol(client=client, extensions=[])
        self._receiver: SocketReceiver | None = None
        self._message: bytearray | io.StringIO | None = None
        self._message_bytes = 0
        self._unhandled = 0
        self._unhandled_bytes = 0
        self._changed: trio.Event | None = None
        """Set when something was handled or sent, if somebody waits for that."""
        self._close_sent = False
        self._close_received = False
        self._hung_up = False
        self._reading = trio.CancelScope()

    # The link

    def listen(self, receiver: SocketReceiver) -> None:
        self._receiver = receiver

    def send(self, data: str | bytes, handled: Handled | None = None) -> None:
        if not self._close_sent and not self._over:
            self._write(bytes(self._frames.send_data(data)))
        if handled is not None:
            handled()

    def close(self, code: int, reason: str) -> None:
        if self._close_sent or self._over:
            return
        self._close_sent = True
        self._write(
            bytes(self._frames.close(code, reason) if code != CloseReason.NO_STATUS_RCVD else self._frames.close())
        )
        if self._close_received:
            self._reading.cancel()
        else:
            self._reading.deadline = trio.current_time() + WEBSOCKET_CLOSE_S

    def abort(self, error: str | None = None) -> None:
        self._hang_up()

    def drain(self) -> None:
        """Say that the server goes away, and do not wait for an answer."""
        self.close(_RESTARTING, "Service Restart")
        self._reading.cancel()

    # The connection

    def feed(self, data: bytes) -> None:
        """Take bytes that were read before `run`."""
        self._frames.receive_bytes(data)

    async def run(self) -> None:
        """Serve the connection until it ends, and close it. Raises nothing for whatever the client does."""
        try:
            stream = self._stream
            _probe((stream.transport_stream if isinstance(stream, trio.SSLStream) else stream).socket)
            async with trio.open_nursery() as nursery:
                self._write_by(nursery)
                error: str | None = None
                with self._reading:
                    error = await self._read()
                self._tell_end(error)
                while self._unsent and not self._over:
                    await self._change()
                self._over = True
            if self._close_sent and not self._hung_up:
                await self._end()
        finally:
            self._over = True
            self._nursery = None
            self._tell_end(None)
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(self._stream)

    async def _read(self) -> str | None:
        """Until both sides have closed, or the client is gone; returns what it did wrong, if it did."""
        while not self._over:
            failure = self._take_frames()
            if failure is not None:
                return failure
            if self._close_received and self._close_sent:
                return None
            while not self._over and self._must_pause:
                await self._change()
            try:
                data = await self._stream.receive_some(_RECEIVE_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return None
            if not data:
                return None
            if not self._close_received:
                self._frames.receive_bytes(bytes(data))
        return None

    def _tell_end(self, error: str | None) -> None:
        """Say that nothing more comes, unless a Close frame has said it."""
        receiver, self._receiver = self._receiver, None
        if receiver is not None and not self._close_received:
            receiver.lost(error)

    @property
    def _must_pause(self) -> bool:
        return (
            self._unhandled >= WEBSOCKET_UNHANDLED_MAX
            or self._unhandled_bytes >= WEBSOCKET_UNHANDLED_BYTES
            or self._unsent_bytes >= WEBSOCKET_UNSENT_PAUSE
        )

    def _take_frames(self) -> str | None:
        try:
            for frame in self._frames.received_frames():
                failure = self._take_frame(frame)
                if failure is not None:
                    return failure
        except ParseFailed as error:
            self._fail(error.code)
            return str(error)
        return None

    def _take_frame(self, frame: Frame) -> str | None:
        payload = frame.payload
        if frame.opcode is Opcode.PING:
            assert isinstance(payload, bytes)
            if not self._close_sent:
                self._write(bytes(self._frames.pong(payload)))
        elif frame.opcode is Opcode.CLOSE:
            assert isinstance(payload, tuple)
            self._close_received = True
            self._message = None
            assert self._receiver is not None
            self._receiver.close(int(payload[0]), payload[1] or "")
        elif frame.opcode is not Opcode.PONG:
            assert not isinstance(payload, tuple)
            return self._take_data(payload, frame.message_finished)
        return None

    def _take_data(self, data: str | bytes, finished: bool) -> str | None:
        size = len(data) if isinstance(data, bytes) or data.isascii() else len(data.encode())
        self._message_bytes += size
        if self._message_bytes > WEBSOCKET_MESSAGE_MAX:
            self._fail(CloseReason.MESSAGE_TOO_BIG)
            return f"a message is larger than {WEBSOCKET_MESSAGE_MAX} bytes"
        whole = data
        if self._message is not None or not finished:
            if isinstance(data, str):
                text = self._message if isinstance(self._message, io.StringIO) else io.StringIO()
                text.write(data)
                self._message, whole = text, text.getvalue() if finished else ""
            else:
                block = self._message if isinstance(self._message, bytearray) else bytearray()
                block += data
                self._message, whole = block, bytes(block) if finished else b""
        if finished:
            size, self._message_bytes, self._message = self._message_bytes, 0, None
            self._unhandled += 1
            self._unhandled_bytes += size
            assert self._receiver is not None
            self._receiver.message(whole, partial(self._handled, size))
        return None

    def _handled(self, size: int) -> None:
        self._unhandled -= 1
        self._unhandled_bytes -= size
        self._tell()

    def _fail(self, code: int) -> None:
        if not self._close_sent:
            self._close_sent = True
            self._write(bytes(self._frames.close(code)))

    def _hang_up(self) -> None:
        self._over = self._hung_up = True
        self._drop_unsent()
        self._reading.cancel()
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()
        self._tell()

    async def _end(self) -> None:
        """End our side and take in what the peer still sends: closing over unread bytes would reset the connection,
        and could take the Close frame along."""
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError), trio.move_on_after(_LINGER_S):
            if isinstance(self._stream, trio.SSLStream):
                await self._stream.aclose()
                return
            await self._stream.send_eof()
            while await self._stream.receive_some(_RECEIVE_BYTES):
                pass

    async def _change(self) -> None:
        if self._changed is None:
            self._changed = trio.Event()
        await self._changed.wait()

    def _tell(self) -> None:
        changed, self._changed = self._changed, None
        if changed is not None:
            changed.set()


def _probe(client: trio.socket.SocketType) -> None:
    """Have TCP find out about peers that are gone without a word."""
    if client.family in (socket.AF_INET, socket.AF_INET6):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, WEBSOCKET_PROBE_S)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, WEBSOCKET_PROBE_S // 4)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
