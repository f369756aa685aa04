"""A WebSocket handed to an ASGI app: its events as ASGI messages, by the app's own receiving and sending."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from edge_runtime.compat.app_body import ClientDisconnected
from edge_runtime.compat.lifespan import is_cancellation
from edge_runtime.promise import Promise, PromiseCancelled
from edge_runtime.workers.response import Response
from edge_runtime.workers.websocket import WebSocket
from edge_runtime.workers.websocket_end import DISCONNECTED, GONE
from edge_runtime.workers.websocket_link import Handled
from edge_runtime.workers.websocket_pair import open_pair
from edge_runtime.workers.websocket_recipient import SocketFlags

_log = logging.getLogger("asgi")
_FAILED: Final = 1011


class WebSocketSession:
    """`app_run.Conversation` of one connection. `answer` settles with the headers of the response that opens it, or
    with None if the app refuses it; `response` is that response."""

    def __init__(self) -> None:
        self.answer: Promise[list[tuple[str, str]] | None] = Promise()
        client, self.socket = open_pair(SocketFlags())
        self._client: WebSocket | None = client
        self._inbox = _Inbox(self.socket)
        self._connected = False

    def response(self) -> Response:
        """Made once: when nobody holds it any more, the client's end is gone."""
        headers, client, self._client = self.answer.result(), self._client, None
        return Response(None, 403) if headers is None else Response(None, 101, headers=headers, web_socket=client)

    def returned(self) -> None:
        if not self.answer.settled:
            raise RuntimeError("The application neither accepted nor closed the WebSocket")
        self._close(1000, "")

    def over(self) -> None:
        self._inbox.end()

    def failed(self, error: BaseException) -> None:
        ended = is_cancellation(error)
        if not self.answer.settled:
            self.answer.reject(PromiseCancelled("the application was cancelled before it answered") if ended else error)
            return
        if not ended and not isinstance(error, ClientDisconnected):
            _log.error("Exception in ASGI application", exc_info=error)
        self._close(_FAILED, "")

    def _close(self, code: int, reason: str) -> None:
        if self.answer.error is None and self._inbox.listening:
            self.socket.close(code, reason)

    async def receive(self) -> dict[str, Any]:
        if not self._connected:
            self._connected = True
            return {"type": "websocket.connect"}
        return await self._inbox.take()

    async def send(self, message: Mapping[str, Any]) -> None:
        kind = message["type"]
        if kind == "websocket.accept" and not self.answer.settled:
            self._accept(message)
        elif kind == "websocket.send" and self._inbox.listening:
            if self._inbox.over:
                raise ClientDisconnected
            data = message.get("bytes")
            self.socket.send(message["text"] if data is None else data)
        elif kind == "websocket.close" and not self.answer.settled:
            self.answer.resolve(None)
        elif kind == "websocket.close":
            self._close(message.get("code", 1000), message.get("reason") or "")
        else:
            raise RuntimeError(
                f"an ASGI app sent {kind!r} at the wrong time; allowed: websocket.accept or websocket.close, then "
                "websocket.send and websocket.close"
            )

    def _accept(self, message: Mapping[str, Any]) -> None:
        headers = [(bytes(name).decode("latin-1"), bytes(value).decode("latin-1")) for name, value in _pairs(message)]
        if message.get("subprotocol"):
            headers.append(("sec-websocket-protocol", message["subprotocol"]))
        self._inbox.listen()
        self.answer.resolve(headers)


class _Inbox:
    """Takes what comes from the client until the app asks for it; the client is read no faster."""

    def __init__(self, socket: WebSocket) -> None:
        self.listening = False
        self.over = False
        """The app cannot send any more."""
        self._socket = socket
        self._messages: deque[tuple[dict[str, Any], Handled | None]] = deque()
        self._arrived: Promise[None] = Promise()
        self._ended = False

    def listen(self) -> None:
        self.listening = True
        self._socket._receive_by(self)

    async def take(self) -> dict[str, Any]:
        while not self._messages:
            await self._arrived
        message, handled = self._messages[0]
        if message["type"] == "websocket.disconnect":
            return message
        self._messages.popleft()
        if not self._messages:
            self._arrived = Promise()
        if handled is not None:
            handled()
        return message

    def end(self) -> None:
        """Nobody asks any more."""
        self._ended = True
        for _, handled in self._messages:
            if handled is not None:
                handled()
        self._messages.clear()

    def _put(self, message: dict[str, Any], handled: Handled | None = None) -> None:
        if self._ended:
            if handled is not None:
                handled()
            return
        self._messages.append((message, handled))
        if not self._arrived.settled:
            self._arrived.resolve(None)

    # What `workers.websocket_link.SocketReceiver` asks for

    def message(self, data: str | bytes, handled: Handled | None) -> None:
        kind = "bytes" if isinstance(data, bytes) else "text"
        self._put({"type": "websocket.receive", kind: data}, handled)

    def close(self, code: int, reason: str) -> None:
        self.over = True
        self._socket._incoming_closed(code, reason)
        self._socket._settle_if_closed()
        self._put({"type": "websocket.disconnect", "code": code, "reason": reason})

    def lost(self, error: str | None) -> None:
        self.over = True
        self._socket._lose()
        self._socket._settle_if_closed()
        self._put({"type": "websocket.disconnect", "code": GONE, "reason": error or DISCONNECTED})


def _pairs(message: Mapping[str, Any]) -> Any:
    return message.get("headers") or ()
