"""The loop of one HTTP/1.1 connection: heads in, the handler's turn, what is left of bodies, the next head.

The handler runs in the connection's task, and reads and writes by itself. The connection ends by its one cancel scope,
whoever ends it; the handler is cancelled with it, its `waitUntil` is not.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Final

import trio

from edge_runtime.connection_marks import BEGUN, IDLE, UNKNOWN, number_of
from edge_runtime.isolate.http1.client_socket import Client
from edge_runtime.isolate.http1.exchange import Http1Exchange
from edge_runtime.isolate.http1.head import OtherProtocol, RefusedRequest, RequestHead
from edge_runtime.isolate.http1.parser import RequestParser
from edge_runtime.isolate.http1.response import response_head
from edge_runtime.isolate.http1.unread import RECEIVE_BYTES, drop_rest, end_sending
from edge_runtime.isolate.http1.writer import ClientWriter
from edge_runtime.limits import (
    CONNECTION_TICK_S,
    HALF_CLOSED_S,
    KEEP_ALIVE_TIMEOUT_S,
    REQUEST_HEAD_S,
    REQUESTS_PER_CONNECTION_MAX,
)

if TYPE_CHECKING:
    from edge_runtime.isolate.http1.server import Http1Server

_IN_A_ROW_MAX: Final = 16
"""Pipelined requests served before other connections have a turn."""
_PROBE_S: Final = 15.0

_PLAIN: Final = ((b"content-type", b"text/plain;charset=UTF-8"),)


class Http1Connection(ClientWriter):
    __slots__ = (
        "_begun_mark", "_fresh", "_gone", "_half_closed_s", "_idle_mark", "_in_head", "_probe_s", "_server", "exchange",
        "expires_s", "marks", "number", "parser", "place", "relayed",
    )  # fmt: skip

    def __init__(self, server: Http1Server, client: Client) -> None:
        super().__init__(client)
        self._server = server
        self.parser = RequestParser()
        self.exchange: Http1Exchange | None = None
        self.expires_s = inf
        self.relayed = client.family == socket.AF_UNIX
        marks = server.connections.marks
        self.marks = marks.marks
        self.place = marks.place(client.fileno())
        own = marks.next_own()
        self.number = number_of(self.place, own)
        self._idle_mark = own | IDLE
        self._begun_mark = own | BEGUN
        self.marks[self.place] = self._idle_mark
        self._fresh = True
        self._in_head = False
        self._gone = False
        self._half_closed_s = 0.0
        self._probe_s = 0.0

    @property
    def draining(self) -> bool:
        return self._server.connections.draining

    @property
    def date(self) -> bytes:
        """The Date header's line, of now."""
        return self._server.date

    async def run(self) -> bytes | None:
        """Serve until the connection is to be closed (None), or to be served by another protocol from the bytes on that
        are returned. Call within `scope`."""
        parser = self.parser
        served = 0
        received = False
        while True:
            try:
                head = parser.next_head()
            except OtherProtocol:
                return parser.take_unserved()
            except RefusedRequest as refusal:
                await self.refuse(refusal)
                return None
            if head is None:
                if not await self._receive_head():
                    return None
                received = True
            else:
                if not received:  # it came together with the one before
                    self.marks[self.place] = self._begun_mark
                received = False
                served += 1
                if not await self._serve_request(head, served >= REQUESTS_PER_CONNECTION_MAX):
                    return None
                if not served % _IN_A_ROW_MAX and parser.has_unread:
                    await trio.lowlevel.checkpoint()

    async def _serve_request(self, head: RequestHead, last: bool) -> bool:
        """Whether the connection can serve another one afterwards."""
        if self._gone:
            return False
        self.expires_s = inf
        self.exchange = exchange = Http1Exchange(self, head, last)
        try:
            await self._server.app(exchange)
        finally:
            exchange.over = True
            self.exchange = None
        if self._broken:
            return False
        if not exchange.ended and exchange.ends_with_connection:
            self.client.break_off()
            return False
        while exchange.reading is not None:
            exchange.reading.cancel()
            await trio.lowlevel.checkpoint()
        if exchange.closes or not exchange.ended:
            await end_sending(self.client, self.parser)
            return False
        return self.parser.complete or await drop_rest(self.client, self.parser)

    async def _receive_head(self) -> bool:
        """Take in more of a request's head, or wait for one; False when none will come."""
        server = self._server
        if self.parser.has_unread:
            if not self._in_head:
                self._in_head = True
                self.expires_s = server.now_s + REQUEST_HEAD_S
        else:
            self._in_head = False
            if server.connections.draining and not self._fresh:  # what it was handed over for is answered
                return False
            self.expires_s = server.now_s + KEEP_ALIVE_TIMEOUT_S
            self.marks[self.place] = self._idle_mark
        client = self.client
        while True:
            if self._fresh:
                self._fresh = False  # a connection is handed over when there is something to read
            else:
                await client.readable()
            self.marks[self.place] = self._begun_mark
            try:
                data = client.recv(RECEIVE_BYTES)
                break
            except BlockingIOError:
                if not self._in_head:
                    self.marks[self.place] = self._idle_mark
                continue
            except OSError:
                return False
        if data:
            self.parser.feed(data)
            return True
        if self._in_head:
            await self.refuse(RefusedRequest(400, "Bad Request: the head is not complete"))
        return False

    # Ends

    def _refusal(self, status: int, reason: str) -> bytes:
        body = reason.encode()
        framing = b"content-length: %d\r\nconnection: close\r\n" % len(body)
        head = response_head(status, _PLAIN, framing, self._server.date)
        return head if self.exchange is not None and self.exchange.method == "HEAD" else head + body

    async def refuse(self, refusal: RefusedRequest) -> None:
        """Answer what cannot be understood, or not served, and end the connection."""
        self.expires_s = inf
        self.marks[self.place] = UNKNOWN
        await self.write(self._refusal(refusal.status, str(refusal)))
        await end_sending(self.client, self.parser)

    # What others tell

    def drain(self) -> None:
        """Close if no request is being served and none is waiting to be read."""
        if self.exchange is not None:
            return
        if not self._in_head:
            try:
                if self.client.recv(1, socket.MSG_PEEK):
                    return
            except BlockingIOError:
                self.marks[self.place] = UNKNOWN
                # A request that arrives from now on resets the connection when it is closed; the client is to find
                # the end before that.
                with suppress(OSError):
                    self.client.shutdown(socket.SHUT_WR)
            except OSError:
                return
        self.scope.cancel()

    def expire(self) -> None:
        self.marks[self.place] = UNKNOWN
        if self._in_head:
            self.send_now(self._refusal(408, f"Request Timeout: no complete head within {REQUEST_HEAD_S:g} s"))
        self.scope.cancel()

    def client_gone(self) -> None:
        self._gone = True
        if self.exchange is not None:
            self.scope.cancel()

    def client_half_closed(self) -> None:
        if not self.relayed:  # a Unix socket tells when the client is gone
            self._half_closed_s = self._server.now_s
            self._probe_s = self._half_closed_s + 2 * CONNECTION_TICK_S  # most requests are over by then
            self._server.half_closed.add(self)

    def probe(self) -> None:
        """Send the client of a long request something that any answer may begin or go on with: if it has not merely
        ended its side but is gone, TCP says so."""
        exchange, now_s = self.exchange, self._server.now_s
        if exchange is None or self._unsent or now_s < self._probe_s:
            return
        self._probe_s = now_s + _PROBE_S
        probe = exchange.probe()
        if probe:
            self.send_now(probe)  # if it cannot be sent, departures tell
        elif now_s - self._half_closed_s >= HALF_CLOSED_S:
            self.scope.cancel()
