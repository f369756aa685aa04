"""One connection that hypercorn's protocols serve: its socket, its tasks and its time limits."""

from __future__ import annotations

import socket
from math import inf
from typing import TYPE_CHECKING, Any

import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol import ProtocolWrapper
from hypercorn.typing import ConnectionState

from edge_runtime.connection_marks import UNKNOWN, number_of
from edge_runtime.isolate.http.exchange import App
from edge_runtime.isolate.hypercorn.exchange import HypercornExchange
from edge_runtime.isolate.websockets.connection import WebSocketConnection
from edge_runtime.limits import KEEP_ALIVE_TIMEOUT_S, UNREAD_BODY_MAX, UNREAD_BODY_S, WRITE_TIMEOUT_S

if TYPE_CHECKING:
    from edge_runtime.isolate.hypercorn.server import HypercornServer

_RECEIVE_BYTES = 64 * 1024


class HypercornConnection:
    """The place of hypercorn's TCPServer: reads, writes, closes, and starts a task per request."""

    def __init__(self, server: HypercornServer, stream: trio.SocketStream, received: bytes) -> None:
        self._server = server
        self._stream = stream
        self._received = received
        self._write_lock = trio.Lock()
        self._reading = trio.CancelScope()
        self._idle = False
        self._corked: list[bytes] | None = None
        self._closed = False
        self._lingers = False
        self._upgraded: WebSocketConnection | None = None
        self.relayed = stream.socket.family == socket.AF_UNIX
        marks = server.connections.marks
        self._marks = marks.marks
        self._place = marks.place(stream.socket.fileno())
        self._own = marks.next_own()
        self.number = number_of(self._place, self._own)
        self._protocol: ProtocolWrapper
        self._nursery: trio.Nursery  # hypercorn's TaskGroup interface: read by its HTTP/2 and WebSocket parts

    async def run(self) -> WebSocketConnection | None:
        """Serve until the connection is closed, or is to be served as the WebSocket that is returned."""
        server = self._server
        upgraded: WebSocketConnection | None = None
        peer = _address(self._stream.socket.getpeername)
        local = _address(self._stream.socket.getsockname)
        try:
            async with trio.open_nursery() as self._nursery:
                # Hypercorn takes its task group's word for what an app is; ours takes exchanges.
                tasks: Any = self
                app: Any = server.app
                self._protocol = ProtocolWrapper(
                    app, server.config, server.context, tasks, ConnectionState({}), False, peer, local, self._send
                )
                await self._protocol.initiate()
                with self._reading:
                    # It is not idle before what it was handed over for has been answered, not while draining either.
                    self._reading.deadline = trio.current_time() + KEEP_ALIVE_TIMEOUT_S
                    await self._read()
                if self._upgraded is None:
                    await self._protocol.handle(Closed())
                    await self._close()
            if self._lingers and self._upgraded is None:
                await self._linger()
            upgraded, self._upgraded = self._upgraded, None
            if upgraded is not None:
                return upgraded
        finally:
            self._closed = True
            self.mark(UNKNOWN)
            if upgraded is None:
                with trio.CancelScope(shield=True):
                    await trio.aclose_forcefully(self._stream)
        return None

    async def upgrade(self, head: bytes) -> WebSocketConnection:
        """Stop serving HTTP and send `head`; returns what serves the connection once the exchange is over."""
        self._upgraded = WebSocketConnection(self._stream)
        self._reading.cancel()
        await self._write(head)
        return self._upgraded

    def drain(self) -> None:
        if self._idle:
            self._reading.cancel()

    def mark(self, state: int) -> None:
        """Show whether the answer to a request of HTTP/1 is wholly outstanding (BEGUN), or nothing (UNKNOWN)."""
        self._marks[self._place] = self._own | state if state else UNKNOWN

    def _set_idle(self, idle: bool) -> None:
        self._idle = idle
        self._reading.deadline = trio.current_time() + KEEP_ALIVE_TIMEOUT_S if idle else inf
        if idle and self._server.connections.draining:
            self._reading.cancel()

    async def _read(self) -> None:
        stream, protocol = self._stream, self._protocol
        while not self._closed:
            data: bytes | bytearray
            if self._received:
                data, self._received = self._received, b""
            else:
                try:
                    data = await stream.receive_some(_RECEIVE_BYTES)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    return
            if self._upgraded is not None:
                self._upgraded.feed(data)
                return
            await protocol.handle(RawData(bytes(data)))
            if not data:
                return
            served = getattr(protocol.protocol, "stream", None)
            if served is not None and served.closed:
                self._lingers = True  # a handshake was refused, and hypercorn leaves it at that
                return

    async def _send(self, event: Event) -> None:
        if isinstance(event, RawData):
            if self._corked is not None:
                self._corked.append(event.data)
            elif event.data:
                await self._write(event.data)
            return
        if self._corked:
            await self.uncork()
        if isinstance(event, Updated):
            self._set_idle(event.idle)
        elif isinstance(event, Closed):
            self._lingers = True
            await self._close()
            await self._protocol.handle(Closed())

    def cork(self) -> None:
        """Collect writes until `uncork` or the end of the answer, so that head and body leave in one."""
        if self._corked is None:
            self._corked = []

    async def uncork(self) -> None:
        corked, self._corked = self._corked, None
        if corked:
            await self._write(b"".join(corked))

    async def _write(self, data: bytes) -> None:
        closed = self._closed  # what is written before the end goes out, also if the end comes while it waits
        async with self._write_lock:
            if closed:
                # The read loop is about to cancel the handler that still sends; the lock gave it a turn for that.
                return
            with trio.CancelScope(shield=True, deadline=trio.current_time() + WRITE_TIMEOUT_S) as scope:
                try:
                    await self._stream.send_all(data)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    self._hang_up()
            if scope.cancelled_caught:
                self._hang_up()

    def _hang_up(self) -> None:
        """The client is gone or does not read: give the connection up; the read loop ends it."""
        self._closed = True
        self._reading.cancel()

    async def _close(self) -> None:
        if not self._closed:
            self._closed = True
            self._reading.cancel()
            if self._write_lock.locked():
                return  # something is still being written; `_linger` ends our side when that is over
            async with self._write_lock:
                try:
                    await self._stream.send_eof()
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    return  # the other side closed first

    async def _linger(self) -> None:
        """Take in what the client still sends after we ended the connection: closing over unread bytes would reset it
        and could take the answer along. A client that goes on sending does not wait for it."""
        unread = UNREAD_BODY_MAX
        with trio.move_on_after(UNREAD_BODY_S):
            try:
                await self._stream.send_eof()
                while unread > 0 and (data := await self._stream.receive_some(_RECEIVE_BYTES)):
                    unread -= len(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return

    # What hypercorn calls a task group.

    async def spawn_app(self, app: App, config: Config, scope: Any, send: Any) -> Any:
        exchange = HypercornExchange(self, scope, send)
        self._nursery.start_soon(exchange.run, app)
        return exchange.put

    def spawn(self, func: Any, *args: Any) -> None:
        self._nursery.start_soon(func, *args)


def _address(read: Any) -> tuple[str, int] | None:
    try:
        name = read()
    except OSError:
        return None
    return (name[0], name[1]) if isinstance(name, tuple) else None
