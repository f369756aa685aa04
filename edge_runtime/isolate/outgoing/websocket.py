"""Conversations that begin here: the handshake with a server, and the link that comes of it.

HTTP is h11's, frames are wsproto's (`websockets.connection`). Extensions are not offered. Source: RFC 6455, section 4.
"""

from __future__ import annotations

import base64
import contextvars
import os
from typing import Final

import h11
import trio
from wsproto.utilities import generate_accept_token

from edge_runtime.isolate.http.exchange import RawHeaders
from edge_runtime.isolate.websockets.connection import WebSocketConnection
from edge_runtime.isolate.websockets.writer import Connected
from edge_runtime.limits import REQUEST_HEADERS_MAX
from edge_runtime.workers.headers import header
from edge_runtime.workers.network import Reply
from edge_runtime.workers.websocket_link import Handled, SocketReceiver

_RECEIVE_BYTES: Final = 64 * 1024
_OF_HANDSHAKE: Final = frozenset(
    {
        b"connection", b"content-length", b"host", b"sec-websocket-accept", b"sec-websocket-extensions",
        b"sec-websocket-key", b"sec-websocket-version", b"transfer-encoding", b"upgrade",
    }
)  # fmt: skip


async def ask_for_socket(
    stream: Connected, nursery: trio.Nursery, host: bytes, target: bytes, headers: RawHeaders
) -> Reply:
    """Ask for a WebSocket on a fresh connection, which belongs to the reply from then on.

    OSError if the answer is no HTTP, breaks off, or grants something else than was asked for. The conversation's task
    runs in `nursery`.
    """
    key = base64.b64encode(os.urandom(16))
    own = [
        (b"host", host),
        (b"upgrade", b"websocket"),
        (b"connection", b"Upgrade"),
        (b"sec-websocket-key", key),
        (b"sec-websocket-version", b"13"),
    ]
    handshake = _Handshake(stream)
    try:
        answer = await handshake.ask(target, [*own, *(pair for pair in headers if pair[0] not in _OF_HANDSHAKE)])
        given = [(name, value) for name, value in answer.headers]
        reason = answer.reason.decode("latin-1")
        if answer.status_code != 101:
            return Reply(answer.status_code, reason, given, handshake.receive, handshake.close)
        _check(given, key)
    except BaseException as error:
        await trio.aclose_forcefully(stream)
        if isinstance(error, (h11.ProtocolError, trio.BrokenResourceError)):
            raise OSError(str(error.__cause__ or error) or type(error).__name__) from error
        raise
    connection = WebSocketConnection(stream, client=True)
    connection.feed(handshake.rest)
    return Reply(101, reason, given, _no_body, _nothing, _Conversation(connection, nursery))


def _check(headers: RawHeaders, key: bytes) -> None:
    if (header(headers, b"upgrade") or "").lower() != "websocket":
        raise OSError("the server's answer of status 101 does not upgrade to a WebSocket")
    if header(headers, b"sec-websocket-accept") != generate_accept_token(key).decode():
        raise OSError("the server's answer of status 101 has the wrong Sec-WebSocket-Accept")
    if extensions := header(headers, b"sec-websocket-extensions"):
        raise OSError(f"the server chose extensions that were not offered: {extensions}")


class _Handshake:
    """One request and its answer."""

    def __init__(self, stream: Connected) -> None:
        self._stream = stream
        self._connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=REQUEST_HEADERS_MAX)

    async def ask(self, target: bytes, headers: list[tuple[bytes, bytes]]) -> h11.InformationalResponse | h11.Response:
        try:
            request = h11.Request(method="GET", target=target, headers=headers)
        except h11.LocalProtocolError as error:
            raise OSError(f"the request for a WebSocket cannot be sent: {error}") from None
        data = self._connection.send(request)
        assert data is not None
        self._connection.send(h11.EndOfMessage())
        await self._stream.send_all(data)
        while True:
            event = await self._next()
            if isinstance(event, h11.Response) or (
                isinstance(event, h11.InformationalResponse) and event.status_code == 101
            ):
                return event

    async def _next(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        while (event := self._connection.next_event()) is h11.NEED_DATA:
            self._connection.receive_data(bytes(await self._stream.receive_some(_RECEIVE_BYTES)))
        return event

    @property
    def rest(self) -> bytes:
        """What came after the head of the answer."""
        return bytes(self._connection.trailing_data[0])

    async def receive(self) -> bytes | None:
        """The next piece of the body of an answer that grants no WebSocket."""
        while True:
            try:
                event = await self._next()
            except (h11.RemoteProtocolError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise OSError(f"the response broke off: {error or type(error).__name__}") from error
            if isinstance(event, h11.Data):
                return bytes(event.data)
            if isinstance(event, h11.EndOfMessage):
                return None

    async def close(self) -> None:
        await trio.aclose_forcefully(self._stream)


class _Conversation:
    """`SocketLink` on a granted connection, which is read from once somebody listens."""

    def __init__(self, connection: WebSocketConnection, nursery: trio.Nursery) -> None:
        self._connection = connection
        self._nursery: trio.Nursery | None = nursery

    def listen(self, receiver: SocketReceiver) -> None:
        self._connection.listen(receiver)
        self._begin()

    def send(self, data: str | bytes, handled: Handled | None = None) -> None:
        self._connection.send(data, handled)

    def close(self, code: int, reason: str) -> None:
        self._connection.close(code, reason)

    def abort(self, error: str | None = None) -> None:
        self._connection.abort(error)
        self._begin()  # it closes the connection

    def _begin(self) -> None:
        nursery, self._nursery = self._nursery, None
        if nursery is not None:
            # The connection's tasks are not the event's that began it.
            contextvars.Context().run(nursery.start_soon, self._connection.run)


async def _no_body() -> bytes | None:
    return None


async def _nothing() -> None:
    return
