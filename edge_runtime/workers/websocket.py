"""WebSocket: what scripts hold of a conversation by messages.

An end of a pair is used in one of four ways, once: accepted (its events go to listeners), accepted for hibernation by a
Durable Object (`bindings.durable_objects.sockets`), returned in a response, which couples it with the client's
connection, or dropped, which the other end sees as a lost connection. The socket of a response that `fetch` got from
another server is used in the same ways, except for hibernation; one that was made by `WebSocket.new(url)` is accepted
once it is connected (`websocket_connecting`). Source of the rules and texts: workerd api/web-socket.c++.
"""

from __future__ import annotations

import weakref
from collections.abc import Awaitable, Mapping
from enum import Enum, auto
from functools import partial
from typing import Any, Final

import trio

from edge_runtime.event import EventContext, require_event
from edge_runtime.limits import WEBSOCKET_ATTACHMENT_MAX
from edge_runtime.metering.quantities import WEBSOCKET_BYTES_IN, WEBSOCKET_BYTES_OUT
from edge_runtime.promise import Promise
from edge_runtime.store.values import decode, encode
from edge_runtime.workers.blob import Blob
from edge_runtime.workers.buffers import ArrayBuffer, as_bytes
from edge_runtime.workers.conversion import from_wire, to_wire
from edge_runtime.workers.js_object import JsException
from edge_runtime.workers.websocket_events import CloseEvent, ErrorEvent, Event, EventTarget, MessageEvent
from edge_runtime.workers.websocket_link import Handled, Outbox, SocketLink, SocketReceiver, couple, message_bytes
from edge_runtime.workers.websocket_recipient import Recipient, SocketFlags

NO_CODE: Final = 1005
GONE: Final = 1006
DISCONNECTED: Final = "WebSocket disconnected without sending Close frame."
FAILED: Final = "Failed to establish websocket connection"
_NOT_SENDABLE: Final = frozenset({1004, NO_CODE, GONE, 1015})
_NOT_ACCEPTED: Final = (
    "You must call one of accept() or state.acceptWebSocket() on this WebSocket before sending messages."
)


class _State(Enum):
    CONNECTING = auto()
    FREE = auto()
    """Neither accepted nor used in a response."""
    ACCEPTED = auto()
    HIBERNATABLE = auto()
    RELEASED = auto()
    """Used in a response."""


_WHY_NOT_RETURNED: Final = {
    _State.CONNECTING: "in a Response if it was created with `new WebSocket()`",
    _State.RELEASED: "that was already used in a response",
    _State.HIBERNATABLE: "in a Response after calling acceptWebSocket()",
    _State.ACCEPTED: "in a Response after calling accept()",
}


class WebSocket(EventTarget):
    """One end of a conversation."""

    __slots__ = (
        "__weakref__", "_attachment", "_auto_reply", "_binary_type", "_closed_incoming", "_closed_outgoing", "_error",
        "_gone", "_link", "_outbox", "_peer", "_state", "_to_server", "_token", "auto_response_ms", "closed",
        "protocol", "tags", "url",
    )  # fmt: skip

    CONNECTING = READY_STATE_CONNECTING = 0
    OPEN = READY_STATE_OPEN = 1
    CLOSING = READY_STATE_CLOSING = 2
    CLOSED = READY_STATE_CLOSED = 3

    extensions = ""

    def __init__(self, link: SocketLink, flags: SocketFlags, *, to_server: bool = False) -> None:
        """A free end on `link`. Within trio. `to_server`: this worker has opened the connection."""
        super().__init__()
        self._link = link
        self._state = _State.FREE
        self._to_server = to_server
        self._closed_incoming = self._closed_outgoing = self._gone = False
        self._error: JsException | None = None
        self._outbox = Outbox()
        self._auto_reply = flags.auto_reply
        self._binary_type = "blob" if flags.blobs else "arraybuffer"
        self._attachment: bytes | None = None
        self._peer: weakref.ref[WebSocket] | None = None
        self._token = trio.lowlevel.current_trio_token()
        self.auto_response_ms: int | None = None
        self.closed: Promise[None] = Promise()
        self.tags: tuple[str, ...] = ()
        self.url: str | None = None
        self.protocol = ""

    @classmethod
    def new(cls, url: object, protocols: object = None, **_options: Any) -> WebSocket:
        """Open a WebSocket to a server; returns at once. Listeners hear "open", or "error" and then "close".

        Args:
            url: "ws:" or "wss:", without a fragment.
            protocols: one, or several in the order of preference; `protocol` is the one that the server chose.
        Raises:
            JsException: a SyntaxError, for a URL or protocol that cannot be used.
        """
        from edge_runtime.workers.websocket_connecting import connect

        return connect(url, protocols)

    def __del__(self) -> None:
        if getattr(self, "_state", None) is not _State.FREE:
            return
        try:
            # The collector may run in any thread.
            self._token.run_sync_soon(self._link.abort)
        except (trio.RunFinishedError, OSError):
            return  # there is no event loop any more, so nobody is at the other end

    # What scripts use

    @property
    def readyState(self) -> int:
        if (self._closed_incoming and self._closed_outgoing) or self._gone or self._error is not None:
            return self.CLOSED
        if self._state is _State.CONNECTING:
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
        if self._state is _State.CONNECTING:
            raise TypeError("Websockets obtained from the 'new WebSocket()' constructor cannot call accept")
        if self._state is _State.RELEASED:
            raise TypeError("Can't accept() WebSocket that was already used in a response.")
        if self._state is _State.HIBERNATABLE:
            raise TypeError("Can't accept() WebSocket after enabling hibernation.")
        if self._state is _State.ACCEPTED:
            return
        event = require_event("WebSocket.accept()")
        if {**(options or {})}.get("allowHalfOpen", allowHalfOpen):
            self._auto_reply = False
        self._receive_by(_Inbound(self, event.sockets.recipient(event, self)))
        self._hold(event)

    def send(self, message: object) -> None:
        """Send a message, text or binary. Within a Durable Object it leaves when the writes before it are durable.

        Ignored when the other side is gone; TypeError after `close`.
        """
        data = _sendable(message)
        if self._gone or self._state is _State.RELEASED:
            return
        if self._closed_outgoing:
            if self._closed_incoming and self._auto_reply:
                return
            raise TypeError("Can't call WebSocket send() after close().")
        if self._state in (_State.FREE, _State.CONNECTING):
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
        if self._closed_outgoing or self._gone or self._state is _State.RELEASED:
            return
        if self._state is _State.CONNECTING:
            self._link.close(NO_CODE, "")
            return
        if self._state is _State.FREE:
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

    # What the runtime uses

    def _receive_by(self, receiver: SocketReceiver) -> None:
        self._state = _State.ACCEPTED
        self._link.listen(receiver)

    def _hold(self, event: EventContext) -> None:
        """Let `event` last as long as the conversation. One with a server gets what `waitUntil` gets, where no Durable
        Object keeps it, and is cut off then."""
        if self._to_server and event.actor is None:
            event.wait_until(self.closed)
            event.at_end(self._drop)
        else:
            event.keep_open(self.closed)

    def _connect_by(self, attempt: SocketLink) -> None:
        """Wait for `_opened` or `_failed`, which `attempt` leads to unless it is given up."""
        self._state = _State.CONNECTING
        self._link = attempt

    def _opened(self, link: SocketLink, protocol: str, recipient: Recipient) -> None:
        if self._gone:
            link.abort()
            return
        self._link = link
        recipient.deliver(partial(self._on_open, protocol), _nothing)
        link.listen(_Inbound(self, recipient))

    def _failed(self, error: str, recipient: Recipient) -> None:
        if not self._gone:
            self._lose()
            recipient.deliver(partial(self._on_lost, error), _nothing)
            recipient.deliver(partial(self.dispatch, CloseEvent(GONE, FAILED, False, self)), self._settle_if_closed)

    def _hibernate_by(self, receiver: SocketReceiver, tags: tuple[str, ...]) -> None:
        """Accept the socket on behalf of a Durable Object; JsException where that is not possible."""
        if self._state is _State.ACCEPTED:
            raise JsException("Cannot call `acceptWebSocket()` if the WebSocket was already accepted via `accept()`")
        peer = self._peer() if self._peer is not None else None
        if self._state is not _State.FREE or peer is None or peer._state is not _State.FREE:
            raise JsException(
                "Cannot call `acceptWebSocket()` on this WebSocket because its pair has already been accepted or used "
                "in a Response."
            )
        self._state = _State.HIBERNATABLE
        self.tags = tags
        self._link.listen(receiver)

    def _tags(self) -> list[str]:
        """JsException if the socket was not accepted for hibernation."""
        if self._state is _State.HIBERNATABLE:
            return list(self.tags)
        if self._state is _State.ACCEPTED:
            raise JsException("only hibernatable websockets can have tags.")
        raise JsException("you must call 'acceptWebSocket()' before attempting to access the tags of a WebSocket.")

    def _check_free(self) -> None:
        """TypeError if the socket cannot be returned in a response."""
        if self._state is not _State.FREE:
            raise TypeError(f"Can't return WebSocket {_WHY_NOT_RETURNED[self._state]}.")

    def _couple(self, connection: SocketLink) -> None:
        """Let the client's connection take this socket's place."""
        self._check_free()
        self._state = _State.RELEASED
        couple(self._link, connection)

    def _incoming_closed(self, code: int, reason: str) -> None:
        """The other side's Close frame is about to be delivered."""
        if self._closed_incoming:
            return
        self._closed_incoming = True
        if self._auto_reply and not self._closed_outgoing:
            self._close_outgoing(None, code, reason)

    def _lose(self) -> None:
        """The other side is gone: what is sent from now on is ignored."""
        self._closed_incoming = self._gone = True

    def _close_outgoing(self, actor: Any, code: int, reason: str) -> None:
        self._closed_outgoing = True
        self._outbox.put(actor, partial(self._link.close, code, reason))

    def _respond(self, text: str) -> bool:
        """Send an automatic response, unless the socket is closed; returns whether."""
        if self._closed_outgoing or self._gone:
            return False
        self._outbox.put(None, partial(self._link.send, text))
        return True

    def _drop(self) -> None:
        """End the conversation without a Close frame: whoever received its events is gone."""
        self._lose()
        self._link.abort()
        self._settle_if_closed()

    def _settle_if_closed(self) -> None:
        if not self.closed.settled and (self._gone or (self._closed_incoming and self._closed_outgoing)):
            self.closed.resolve(None)

    def _on_open(self, protocol: str) -> Awaitable[None] | None:
        self._state = _State.ACCEPTED
        self.protocol = protocol
        return self.dispatch(Event("open", self))

    def _on_message(self, data: str | bytes) -> Awaitable[None] | None:
        require_event("a WebSocket's message").meter.quantities[WEBSOCKET_BYTES_IN] += message_bytes(data)
        content: object = data
        if isinstance(data, bytes):
            content = Blob([data]) if self._binary_type == "blob" else ArrayBuffer(data)
        return self.dispatch(MessageEvent(content, self))

    def _on_close(self, code: int, reason: str) -> Awaitable[None] | None:
        self._incoming_closed(code, reason)
        return self.dispatch(CloseEvent(code, reason, True, self))

    def _on_lost(self, error: str | None) -> Awaitable[None] | None:
        if error is None:
            return self.dispatch(CloseEvent(GONE, DISCONNECTED, False, self))
        self._error = JsException(error)
        return self.dispatch(ErrorEvent(self._error, self))

    def __repr__(self) -> str:
        return f"<WebSocket {('connecting', 'open', 'closing', 'closed')[self.readyState]}>"


class _Inbound:
    """Brings what arrives on an accepted socket to its listeners."""

    __slots__ = ("_recipient", "_socket")

    def __init__(self, socket: WebSocket, recipient: Recipient) -> None:
        self._socket = socket
        self._recipient = recipient

    def message(self, data: str | bytes, handled: Handled | None) -> None:
        self._recipient.deliver(partial(self._socket._on_message, data), handled or _nothing)

    def close(self, code: int, reason: str) -> None:
        socket = self._socket
        self._recipient.deliver(partial(socket._on_close, code, reason), socket._settle_if_closed)

    def lost(self, error: str | None) -> None:
        socket = self._socket
        if not socket.closed.settled:
            socket._lose()
            self._recipient.deliver(partial(socket._on_lost, error), socket._settle_if_closed)


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


def _nothing() -> None:
    pass
