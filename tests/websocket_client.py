"""A WebSocket client for tests, on wsproto: what a browser does, and what no browser would do."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
from edge_process import PATIENCE_S
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Message,
    Ping,
    Pong,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)


class Refused(Exception):
    """The server answered the handshake with another status than 101."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status, self.body = status, body
        super().__init__(f"{status}: {body.decode('utf-8', 'replace')}")


class WebSocketClient:
    """One connection. `receive` gives str or bytes for a message, (code, reason) for a Close frame, None at the end of
    the stream; Close frames are answered unless `answers_close` is False."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.answers_close = True
        self.headers: dict[str, str] = {}
        self.pongs: list[bytes] = []
        self._connection = WSConnection(ConnectionType.CLIENT)
        self._events: deque[Any] = deque()
        self._parts: list[Any] = []

    async def handshake(self, target: str = "/", **options: Any) -> None:
        await self.stream.send_all(self._connection.send(Request(host="localhost", target=target, **options)))
        body = b""
        while True:
            event = await self._next()
            if isinstance(event, AcceptConnection):
                self.headers = {name.decode(): value.decode() for name, value in event.extra_headers}
                return
            if isinstance(event, RejectConnection):
                status = event.status_code
                if not event.has_body:
                    raise Refused(status, body)
            elif isinstance(event, RejectData):
                body += event.data
                if event.body_finished:
                    raise Refused(status, body)
            else:
                assert event is not None, "the connection ended before the handshake was answered"

    async def _next(self) -> Any:
        while not self._events:
            try:
                data = await self.stream.receive_some(65536)
            except trio.BrokenResourceError:
                return None
            if not data:
                return None
            self._connection.receive_data(data)
            self._events.extend(self._connection.events())
        return self._events.popleft()

    async def receive(self) -> Any:
        while True:
            event = await self._next()
            if event is None:
                return None
            if isinstance(event, Message):
                self._parts.append(event.data)
                if event.message_finished:
                    parts, self._parts = self._parts, []
                    return "".join(parts) if isinstance(event, TextMessage) else b"".join(parts)
            elif isinstance(event, Ping):
                await self.stream.send_all(self._connection.send(event.response()))
            elif isinstance(event, Pong):
                self.pongs.append(bytes(event.payload))
                return event
            elif isinstance(event, CloseConnection):
                if self.answers_close and self._connection.state.name == "REMOTE_CLOSING":
                    await self.stream.send_all(self._connection.send(event.response()))
                return int(event.code), event.reason or ""

    async def receive_json(self) -> Any:
        message = await self.receive()
        assert isinstance(message, str), message
        return json.loads(message)

    async def send(self, message: str | bytes) -> None:
        event = TextMessage(data=message) if isinstance(message, str) else BytesMessage(data=message)
        await self.stream.send_all(self._connection.send(event))

    async def ping(self, payload: bytes = b"") -> None:
        await self.stream.send_all(self._connection.send(Ping(payload=payload)))

    async def close(self, code: int = 1000, reason: str | None = None) -> None:
        await self.stream.send_all(self._connection.send(CloseConnection(code=code, reason=reason)))

    async def drop(self) -> None:
        """Leave without a word."""
        await trio.aclose_forcefully(self.stream)


@asynccontextmanager
async def connected(port: int, target: str = "/", **options: Any) -> AsyncIterator[WebSocketClient]:
    """A client with the handshake done; Refused if the server did not want it."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        client = WebSocketClient(stream)
        with trio.fail_after(PATIENCE_S):
            await client.handshake(target, **options)
        yield client
