"""One request and its answer on hypercorn's stream of ASGI-shaped messages."""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol

import trio

from edge_runtime.connection_marks import BEGUN, UNKNOWN
from edge_runtime.isolate.http.exchange import App, BodyTimeout, BodyTooLarge, Checked, RawHeaders
from edge_runtime.isolate.http.framing import OF_THE_CONNECTION, WITHOUT_BODY, length_without_body
from edge_runtime.isolate.websockets.connection import WebSocketConnection
from edge_runtime.isolate.websockets.upgrade import switching_protocols
from edge_runtime.limits import (
    REQUEST_BODY_MAX,
    REQUEST_BODY_WINDOW_MIN,
    REQUEST_BODY_WINDOW_S,
    REQUEST_HEADERS_COUNT_MAX,
    REQUEST_HEADERS_MAX,
    UNREAD_BODY_MAX,
    UNREAD_BODY_S,
)

_BODY_PIECES_QUEUED = 4


class CarriesExchange(Protocol):
    """The connection as its exchanges see it."""

    relayed: bool
    number: int

    def mark(self, state: int) -> None: ...

    def cork(self) -> None: ...

    async def uncork(self) -> None: ...

    async def upgrade(self, head: bytes) -> WebSocketConnection: ...


class HypercornExchange:
    """`http.exchange.Exchange` on hypercorn's stream of ASGI-shaped messages."""

    def __init__(self, connection: CarriesExchange, scope: Any, send: Any) -> None:
        self._connection = connection
        self._send_message = send
        self._scope = trio.CancelScope()
        self._prefix = "http.response" if scope["type"] == "http" else "websocket.http.response"
        self._pieces: deque[bytes | None] = deque()
        self._reader: trio.lowlevel.Task | None = None
        self._writer: trio.lowlevel.Task | None = None
        self._received = 0
        self._window_s = 0.0
        self._window_bytes = 0
        self._dropped = 0
        self._complete = False
        self._rest: trio.Event | None = None
        """Set once the rest of the body needs no more waiting: it is complete, too much, or the client is gone."""
        self._over = False
        self._gone = False
        if scope["type"] != "http":
            self._pieces.append(None)
            self._complete = True
        self.method: str = scope.get("method", "GET")
        self.scheme: str = scope["scheme"].replace("ws", "http")
        query = scope["query_string"]
        self.target: bytes = scope["raw_path"] + b"?" + query if query else scope["raw_path"]
        self.headers: RawHeaders = scope["headers"]
        self.checked = Checked()
        self.http_version: str = scope["http_version"]
        self.relayed = connection.relayed
        self.started = False
        self.upgradable = scope["type"] == "websocket" and scope["http_version"] == "1.1"
        self._upgraded = False
        self._alone = self.http_version in ("1.0", "1.1")
        """The connection has no other exchange at the time."""
        self.connection_number = connection.number if self._alone else 0
        if self._alone:
            connection.mark(BEGUN)

    async def run(self, app: App) -> None:
        try:
            with self._scope:
                size = sum(len(name) + len(value) + 4 for name, value in self.headers)
                if size > REQUEST_HEADERS_MAX or len(self.headers) > REQUEST_HEADERS_COUNT_MAX:
                    # h11 limits a head only as long as it is incomplete.
                    await self.respond(431, (), b"", close=True)
                else:
                    await app(self)
        finally:
            self._over = True
            self._wake_writer()
            if not self._upgraded:
                with trio.CancelScope(shield=True):
                    await self._send_message(None)

    async def put(self, message: Any) -> None:
        """Hypercorn delivers a message of the client; waits while the handler is slow to take the body."""
        kind = message["type"]
        if kind == "http.request":
            if message["body"]:
                while len(self._pieces) >= _BODY_PIECES_QUEUED and not self._over:
                    self._writer = trio.lowlevel.current_task()
                    await trio.lowlevel.wait_task_rescheduled(self._abort_writer)
                if not self._over:
                    self._pieces.append(message["body"])
                else:
                    self._dropped += len(message["body"])
            if not message["more_body"]:
                self._complete = True
                self._pieces.append(None)
            if self._rest is not None and (self._complete or self._dropped > UNREAD_BODY_MAX):
                self._rest.set()
            self._wake_reader()
        elif kind.endswith(".disconnect"):
            self._gone = True
            if self._rest is not None:
                self._rest.set()
            if not self._over:
                self._scope.cancel()

    async def receive(self) -> bytes | None:
        while not self._pieces:
            await self._wait_for_piece()
        piece = self._pieces[0]
        if piece is None:
            if self._dropped:
                raise OSError("Can't read from request stream after the response has been sent.")
            return None
        self._pieces.popleft()
        self._wake_writer()
        self._received += len(piece)
        self._window_bytes += len(piece)
        if self._received > REQUEST_BODY_MAX:
            raise BodyTooLarge
        return piece

    async def _wait_for_piece(self) -> None:
        """BodyTimeout if too little of the body has come in REQUEST_BODY_WINDOW_S of waiting."""
        began_s = trio.current_time()
        with trio.move_on_after(REQUEST_BODY_WINDOW_S - self._window_s) as limit:
            self._reader = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort_reader)
        if limit.cancelled_caught:
            raise BodyTimeout
        if self._window_bytes >= REQUEST_BODY_WINDOW_MIN:
            self._window_s, self._window_bytes = 0.0, 0
        else:
            self._window_s += trio.current_time() - began_s

    def _abort_reader(self, _: object) -> trio.lowlevel.Abort:
        self._reader = None
        return trio.lowlevel.Abort.SUCCEEDED

    def _abort_writer(self, _: object) -> trio.lowlevel.Abort:
        self._writer = None
        return trio.lowlevel.Abort.SUCCEEDED

    def _wake_reader(self) -> None:
        if self._reader is not None:
            task, self._reader = self._reader, None
            trio.lowlevel.reschedule(task)

    def _wake_writer(self) -> None:
        if self._writer is not None:
            task, self._writer = self._writer, None
            trio.lowlevel.reschedule(task)

    async def _take_in_rest(self) -> bool:
        """Take in what the handler left unread of the body, within bounds; whether that was all of it.

        Only then can the connection serve another request. One that is closed instead must say so with the answer, or
        the client's next request on it fails.
        """
        self._over = True
        if self._complete or self._gone or not self._alone:
            return True
        length = next((int(value) for name, value in self.headers if name == b"content-length"), 0)
        if length - self._received > UNREAD_BODY_MAX:
            return False
        self._rest = trio.Event()
        self._wake_writer()
        with trio.move_on_after(UNREAD_BODY_S):
            await self._rest.wait()
        return self._complete

    async def respond(self, status: int, headers: RawHeaders, body: bytes, *, close: bool = False) -> None:
        closes = close or (not self._complete and not await self._take_in_rest())
        length: int | None = len(body)
        if self.method == "HEAD" or status in WITHOUT_BODY:
            length = length_without_body(status, headers, body)
        headers = [pair for pair in headers if pair[0] != b"content-length"]
        if length is not None:
            headers.append((b"content-length", b"%d" % length))
        self._connection.cork()
        await self._start(status, headers, closes)
        self._over = True
        await self._send_message({"type": f"{self._prefix}.body", "body": body, "more_body": False})
        await self._connection.uncork()

    async def start(self, status: int, headers: RawHeaders) -> None:
        await self._start(status, headers, False)

    async def _start(self, status: int, headers: RawHeaders, closes: bool) -> None:
        headers = [pair for pair in headers if pair[0].lower() not in OF_THE_CONNECTION]
        if closes:
            headers.append((b"connection", b"close"))
        self.started = True
        self._connection.mark(UNKNOWN)
        await self._send_message({"type": f"{self._prefix}.start", "status": status, "headers": headers})

    async def send(self, piece: bytes) -> None:
        await self._send_message({"type": f"{self._prefix}.body", "body": piece, "more_body": True})

    async def end(self) -> None:
        await self._take_in_rest()
        await self._send_message({"type": f"{self._prefix}.body", "body": b"", "more_body": False})

    async def upgrade(self, headers: RawHeaders) -> WebSocketConnection:
        head = switching_protocols(self.headers, headers)
        self.started = self._upgraded = self._over = True
        self._connection.mark(UNKNOWN)
        return await self._connection.upgrade(head)
