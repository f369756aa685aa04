"""WebSocket: what scripts hold of a conversation by messages. What becomes of it is `websocket_end`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final, Protocol

from edge_runtime.event import EventContext, require_event
from edge_runtime.limits import WEBSOCKET_ATTACHMENT_MAX
from edge_runtime.metering.quantities import WEBSOCKET_BYTES_OUT
from edge_runtime.store.values import decode, encode
from edge_runtime.workers.blob import Blob
from edge_runtime.workers.buffers import as_bytes
from edge_runtime.workers.conversion import from_wire, to_wire
from edge_runtime.workers.js_object import JsException
from edge_runtime.workers.websocket_connecting import Attempt, hop_to
from edge_runtime.workers.websocket_end import GONE, NO_CODE, Inbound, SocketEnd, State
from edge_runtime.workers.websocket_link import message_bytes
from edge_runtime.workers.websocket_recipient import Recipient, SocketFlags

_NOT_SENDABLE: Final = frozenset({1004, NO_CODE, GONE, 1015})
_NOT_ACCEPTED: Final = (
    "You must call one of accept() or state.acceptWebSocket() on this WebSocket before sending messages."
)


class Recipients(Protocol):
    """Gives accepted sockets their recipients; every event has one (`EventContext.sockets`)."""

    flags: SocketFlags

    def recipient(self, event: EventContext, socket: WebSocket) -> Recipient: ...


class WebSocket(SocketEnd):
    """One end of a conversation."""

    __slots__ = ()

    CONNECTING = READY_STATE_CONNECTING = 0
    OPEN = READY_STATE_OPEN = 1
    CLOSING = READY_STATE_CLOSING = 2
    CLOSED = READY_STATE_CLOSED = 3

    extensions = ""

    @classmethod
    def new(cls, url: object, protocols: object = None, **_options: Any) -> WebSocket:
        """Open a WebSocket to a server; returns at once. Listeners hear "open", or "error" and then "close".

        Within a Durable Object the handshake waits for the writes before it; the connection lasts as long as the object
        is in memory, or, without one, 30 s longer than the event at most.

        Args:
            url: "ws:" or "wss:", without a fragment.
            protocols: one, or several in the order of preference; `protocol` is the one that the server chose.
        Raises:
            JsException: a SyntaxError, for a URL or protocol that cannot be used.
        """
        event = require_event("WebSocket.new()")
        hop = hop_to(str(url), protocols)
        attempt = Attempt()
        socket = WebSocket(attempt, event.sockets.flags, to_server=True)
        socket.url = str(url)
        socket._state = State.CONNECTING
        attempt.begin(event, socket, event.sockets.recipient(event, socket), hop)
        socket._hold(event)
        return socket

    @property
    def readyState(self) -> int:
        if (self._closed_incoming and self._closed_outgoing) or self._gone or self._error is not None:
            return self.CLOSED
        if self._state is State.CONNECTING:
            return self.CONNECTING
        return self.CLOSING if self._closed_incoming or self._closed_outgoing else self.OPEN

    @property
    def binaryType(self) -> str:
        """As what listeners get binary messages: "arraybuffer" or "blob"."""
        return self._binary_type

    @binaryType.setter
    def binaryType(self, kind: str) -> None:
        if kind in ("arraybuffer", "blob"):
            self._binary_type = kind

    def accept(self, options: Mapping[str, Any] | None = None, *, allowHalfOpen: bool = False) -> None:
        """Begin to receive: messages go to listeners, each as an event of its own.

        With `allowHalfOpen` a Close frame from the other side is not answered before `close` is called.
        """
        if self._state is State.CONNECTING:
            raise TypeError("Websockets obtained from the 'new WebSocket()' constructor cannot call accept")
        if self._state is State.RELEASED:
            raise TypeError("Can't accept() WebSocket that was already used in a response.")
        if self._state is State.HIBERNATABLE:
            raise TypeError("Can't accept() WebSocket after enabling hibernation.")
        if self._state is State.ACCEPTED:
            return
        event = require_event("WebSocket.accept()")
        if {**(options or {})}.get("allowHalfOpen", allowHalfOpen):
            self._auto_reply = False
        self._receive_by(Inbound(self, event.sockets.recipient(event, self)))
        self._hold(event)

    def send(self, message: object) -> None:
        """Send a message, text or binary. Within a Durable Object it leaves when the writes before it are durable.

        Ignored when the other side is gone; TypeError after `close`.
        """
        data = _sendable(message)
        if self._gone or self._state is State.RELEASED:
            return
        if self._closed_outgoing:
            if self._closed_incoming and self._auto_reply:
                return
            raise TypeError("Can't call WebSocket send() after close().")
        if self._state in (State.FREE, State.CONNECTING):
            raise TypeError(_NOT_ACCEPTED)
        event = require_event("WebSocket.send()")
        event.meter.quantities[WEBSOCKET_BYTES_OUT] += message_bytes(data)
        self._outbox.put(event.actor, partial(self._link.send, data))

    def close(self, code: int | None = None, reason: str | None = None) -> None:
        """Send a Close frame, or answer the other side's. A second call does nothing."""
        if code is not None:
            code = int(code)
            if not 1000 <= code < 5000 or code in _NOT_SENDABLE:
                raise TypeError(f"Invalid WebSocket close code: {code}.")
        elif reason is not None:
            raise TypeError("If you specify a WebSocket close reason, you must also specify a code.")
        if self._closed_outgoing or self._gone or self._state is State.RELEASED:
            return
        if self._state is State.CONNECTING:
            self._link.close(NO_CODE, "")
            return
        if self._state is State.FREE:
            raise TypeError(_NOT_ACCEPTED)
        if self._error is not None:
            raise self._error
        self._close_outgoing(require_event("WebSocket.close()").actor, NO_CODE if code is None else code, reason or "")
        self._settle_if_closed()

    def serializeAttachment(self, value: object) -> None:
        """Keep a copy of `value` with the socket; it is there when a Durable Object wakes up again."""
        data = encode(to_wire(value))
        if len(data) > WEBSOCKET_ATTACHMENT_MAX:
            raise JsException(
                f"A WebSocket 'attachment' cannot be larger than {WEBSOCKET_ATTACHMENT_MAX} bytes."
                f"'attachment' was {len(data)} bytes."
            )
        self._attachment = data

    def deserializeAttachment(self) -> Any:
        """A fresh copy of what `serializeAttachment` kept; None without."""
        return None if self._attachment is None else from_wire(decode(self._attachment))

    serialize_attachment, deserialize_attachment = serializeAttachment, deserializeAttachment

    def __repr__(self) -> str:
        return f"<WebSocket {('connecting', 'open', 'closing', 'closed')[self.readyState]}>"


def _sendable(message: object) -> str | bytes:
    if isinstance(message, str):
        try:
            message.encode()
        except UnicodeEncodeError:
            # As JavaScript does with half of a surrogate pair.
            return message.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return str(message)
    data = message.data if isinstance(message, Blob) else as_bytes(message)
    if data is None:
        raise TypeError(f"WebSocket.send() takes text or binary data, not {type(message).__name__}")
    return bytes(data)
