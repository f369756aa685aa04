"""One request on an HTTP/1.1 connection and its answer, as the application sees them.

The task that serves it reads the body from the socket and writes the answer to it; nothing stands between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from edge_runtime.connection_marks import UNKNOWN
from edge_runtime.isolate.http.exchange import BodyTimeout, BodyTooLarge, RawHeaders, WrongBodyLength
from edge_runtime.isolate.http.framing import WITHOUT_BODY, declared_length, length_without_body
from edge_runtime.isolate.http1.head import RefusedRequest, RequestHead
from edge_runtime.isolate.http1.response import response_head
from edge_runtime.isolate.http1.unread import receive_now, will_take_rest
from edge_runtime.limits import REQUEST_BODY_MAX, REQUEST_BODY_WINDOW_MIN, REQUEST_BODY_WINDOW_S
from edge_runtime.workers.websocket_link import SocketLink

if TYPE_CHECKING:
    from edge_runtime.isolate.http1.connection import Http1Connection

_JOINED_MAX: Final = 16 * 1024
"""Up to this size a copy is cheaper than a write of several parts."""
_CHUNK_PROBES_MAX: Final = 4
_CLOSE: Final = b"connection: close\r\n"
_KEEP_ALIVE: Final = b"connection: keep-alive\r\n"
_CHUNKED: Final = b"transfer-encoding: chunked\r\n"
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_OVER: Final = "Can't read from request stream after the response has been sent."


class Http1Exchange:
    """`http.exchange.Exchange` on the bytes of the connection."""

    scheme: str = "http"
    started: bool = False
    upgradable: bool = False
    over = False
    """Nothing more may be received."""
    ended = False
    """The answer is complete."""
    closes = False
    reading: trio.CancelScope | None = None
    _received = 0
    _window_s = 0.0
    _window_bytes = 0
    _left: int | None = None
    """Bytes that the answer's body still needs to have its declared length."""
    _chunked = False
    _probes = 0

    def __init__(self, connection: Http1Connection, head: RequestHead, last: bool) -> None:
        self._connection = connection
        self.method: str = head.method
        self.target: bytes = head.target
        self.headers: RawHeaders = head.headers.copy()
        self.checked = head.checked
        self.http_version: str = head.version
        self.relayed = connection.relayed
        self.connection_number = connection.number
        self._last = last or not head.keep_alive
        self._expects_continue = head.expects_continue

    @property
    def ends_with_connection(self) -> bool:
        """Whether the client takes the end of the connection for the end of the answer."""
        return self.started and not self._chunked and self._left is None

    # The request's body

    async def receive(self) -> bytes | None:
        connection = self._connection
        parser = connection.parser
        while True:
            if self.over:
                raise OSError(_OVER)
            try:
                piece = parser.next_piece()
            except RefusedRequest as refusal:
                await self._give_up(refusal)
                continue
            if piece is None:
                return None
            if piece:
                self._received += len(piece)
                if self._received > REQUEST_BODY_MAX:
                    raise BodyTooLarge
                return piece
            data = await self._receive_more()
            if data == b"":
                await self._give_up(RefusedRequest(400, "Bad Request: the body is shorter than it must be"))
            elif data is not None:
                parser.feed(data)
                self._window_bytes += len(data)

    async def _receive_more(self) -> bytes | None:
        connection = self._connection
        if self._expects_continue and not self.started:
            self._expects_continue = False
            await connection.write(_CONTINUE)
        data = receive_now(connection.client)
        if data is None:
            await self._wait_for_more()
            data = None if self.over else receive_now(connection.client)
        else:
            await trio.lowlevel.checkpoint()
        return data

    async def _wait_for_more(self) -> None:
        """Wait for bytes of the body. BodyTimeout if too few have come in REQUEST_BODY_WINDOW_S of waiting."""
        if self.reading is not None:
            raise trio.BusyResourceError("the request's body is being received by another task")
        began_s = trio.current_time()
        self.reading = scope = trio.CancelScope(deadline=began_s + REQUEST_BODY_WINDOW_S - self._window_s)
        try:
            with scope:
                await self._connection.client.readable()
        except trio.ClosedResourceError:
            raise OSError("the client went away before the end of its request's body") from None
        finally:
            self.reading = None
        if self._window_bytes >= REQUEST_BODY_WINDOW_MIN:
            self._window_s = 0.0
            self._window_bytes = 0
        elif scope.cancelled_caught and not self.over:
            raise BodyTimeout
        else:
            self._window_s += trio.current_time() - began_s

    async def _give_up(self, refusal: RefusedRequest) -> None:
        """The rest of the body will not come: end the connection, and with it the handler."""
        connection = self._connection
        if not self.started:
            self.started = self.over = True
            await connection.refuse(refusal)
        connection.scope.cancel()
        await trio.lowlevel.checkpoint()
        raise OSError(f"the request's body cannot be received: {refusal}")

    # The answer

    async def respond(self, status: int, headers: RawHeaders, body: bytes, *, close: bool = False) -> None:
        connection = self._connection
        length: int | None = len(body)
        if status in WITHOUT_BODY or self.method == "HEAD":
            length, body = length_without_body(status, headers, body), b""
        framing = b"" if length is None else b"content-length: %d\r\n" % length
        closes = close or self._last or connection.draining
        if not closes and not connection.parser.complete:
            closes = not will_take_rest(connection.client, connection.parser, self._expects_continue)
        if closes:
            framing += _CLOSE
        elif self.http_version == "1.0":
            framing += _KEEP_ALIVE
        head = response_head(status, headers, framing, connection.date)
        connection.marks[connection.place] = UNKNOWN
        self.started = self.ended = self.over = True
        self.closes = closes
        sent = connection.send_now(head, body) if len(body) > _JOINED_MAX else connection.send_now(head + body)
        if not sent:
            await connection.flush()

    async def start(self, status: int, headers: RawHeaders) -> None:
        framing, left, chunked, closes = b"", None, False, self._last or self._connection.draining
        if status != 204 and status >= 200:
            left = declared_length(headers)
            if left is not None:
                framing = b"content-length: %d\r\n" % left
            elif status == 304:
                pass
            elif self.http_version == "1.1":
                framing, chunked = _CHUNKED, True
            else:
                closes = True  # the end of the connection is the end of the body
        if self.method == "HEAD" or status in (204, 304) or status < 200:
            left, chunked = -1, False
        if closes:
            framing += _CLOSE
        elif self.http_version == "1.0":
            framing += _KEEP_ALIVE
        connection = self._connection
        head = response_head(status, headers, framing, connection.date)
        connection.marks[connection.place] = UNKNOWN
        self.started = True
        self.closes, self._left, self._chunked = closes, left, chunked
        await connection.write(head)

    async def send(self, piece: bytes) -> None:
        size, left = len(piece), self._left
        if size and left != -1:
            if left is not None:
                if size > left:
                    raise WrongBodyLength(
                        f"the response's body is longer than its content-length by {size - left} bytes"
                    )
                self._left = left - size
                await self._connection.write(piece)
            elif not self._chunked:
                await self._connection.write(piece)
            elif size > _JOINED_MAX:
                await self._connection.write(b"%x\r\n" % size, piece)
                await self._connection.write(b"\r\n")
            else:
                await self._connection.write(b"%x\r\n%b\r\n" % (size, piece))
        await trio.lowlevel.checkpoint()

    async def end(self) -> None:
        if self._left is not None and self._left > 0:
            raise WrongBodyLength(f"the response's body is shorter than its content-length by {self._left} bytes")
        self.ended = self.over = True
        if self._chunked:
            await self._connection.write(b"0\r\n\r\n")

    def probe(self) -> bytes:
        """Bytes that may be sent now without changing the answer; b"" if there are none."""
        if self.http_version != "1.1":
            return b""
        if not self.started:
            return _CONTINUE
        if self._chunked and not self.ended and self._probes < _CHUNK_PROBES_MAX:
            self._probes += 1
            return b"0"  # the size of the next chunk may begin with it
        return b""

    async def upgrade(self, headers: RawHeaders) -> SocketLink:
        raise AssertionError("a request for an upgrade is served by hypercorn")
