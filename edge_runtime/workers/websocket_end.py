"""One end of a conversation by messages, behind a script's WebSocket: how it is used, who has closed it, what arrives.

An end of a pair is used in one of four ways, once: accepted (its events go to listeners), accepted for hibernation by a
Durable Object (`bindings.durable_objects.sockets`), returned in a response, which couples it with the client's
connection, or dropped, which the other end sees as a lost connection. The socket of a response that `fetch` got from
another server is used in the same ways, except for hibernation; one that was made by `WebSocket.new(url)` is accepted
once it is connected (`websocket_connecting`). Source of the rules and texts: workerd api/web-socket.c++.
"""

from __future__ import annotations

import weakref
from collections.abc import Awaitable
from enum import Enum, auto
from functools import partial
from typing import Any, Final

import trio

from edge_runtime.event import EventContext, require_event
from edge_runtime.metering.quantities import WEBSOCKET_BYTES_IN
from edge_runtime.promise import Promise
from edge_runtime.workers.blob import Blob
from edge_runtime.workers.buffers import ArrayBuffer
from edge_runtime.workers.js_object import JsException
from edge_runtime.workers.websocket_events import CloseEvent, ErrorEvent, Event, EventTarget, MessageEvent
from edge_runtime.workers.websocket_link import Handled, Outbox, SocketLink, SocketReceiver, couple, message_bytes
from edge_runtime.workers.websocket_recipient import Recipient, SocketFlags

NO_CODE: Final = 1005
GONE: Final = 1006
DISCONNECTED: Final = "WebSocket disconnected without sending Close frame."
FAILED: Final = "Failed to establish websocket connection"


class State(Enum):
    CONNECTING = auto()
    FREE = auto()
    """Neither accepted nor used in a response."""
    ACCEPTED = auto()
    HIBERNATABLE = auto()
    RELEASED = auto()
    """Used in a response."""


_WHY_NOT_RETURNED: Final = {
    State.CONNECTING: "in a Response if it was created with `new WebSocket()`",
    State.RELEASED: "that was already used in a response",
    State.HIBERNATABLE: "in a Response after calling acceptWebSocket()",
    State.ACCEPTED: "in a Response after calling accept()",
}


class SocketEnd(EventTarget):
    """What the runtime does with a WebSocket. (Names begin with an underscore since scripts hold the object.)"""

    __slots__ = (
        "__weakref__", "_attachment", "_auto_reply", "_binary_type", "_closed_incoming", "_closed_outgoing", "_error",
        "_gone", "_link", "_outbox", "_peer", "_state", "_to_server", "_token", "auto_response_ms", "closed",
        "protocol", "tags", "url",
    )  # fmt: skip

    def __init__(self, link: SocketLink, flags: SocketFlags, *, to_server: bool = False) -> None:
        """A free end on `link`. Within trio. `to_server`: this worker has opened the connection."""
        super().__init__()
        self._link = link
        self._state = State.FREE
        self._to_server = to_server
        self._closed_incoming = self._closed_outgoing = self._gone = False
        self._error: JsException | None = None
        self._outbox = Outbox()
        self._auto_reply = flags.auto_reply
        self._binary_type = "blob" if flags.blobs else "arraybuffer"
        self._attachment: bytes | None = None
        self._peer: weakref.ref[SocketEnd] | None = None
        self._token = trio.lowlevel.current_trio_token()
        self.auto_response_ms: int | None = None
        self.closed: Promise[None] = Promise()
        self.tags: tuple[str, ...] = ()
        self.url: str | None = None
        self.protocol = ""

    def __del__(self) -> None:
        if getattr(self, "_state", None) is not State.FREE:
            return
        try:
            # The collector may run in any thread.
            self._token.run_sync_soon(self._link.abort)
        except (trio.RunFinishedError, OSError):
            return  # there is no event loop any more, so nobody is at the other end

    def _receive_by(self, receiver: SocketReceiver) -> None:
        self._state = State.ACCEPTED
        self._link.listen(receiver)

    def _hold(self, event: EventContext) -> None:
        """Let `event` last as long as the conversation. One with a server gets what `waitUntil` gets, where no Durable
        Object keeps it, and is cut off then."""
        if self._to_server and event.actor is None:
            event.wait_until(self.closed)
            event.at_end(self._drop)
        else:
            event.keep_open(self.closed)

    def _opened(self, link: SocketLink, protocol: str, recipient: Recipient) -> None:
        if self._gone:
            link.abort()
            return
        self._link = link
        recipient.deliver(partial(self._on_open, protocol), _nothing)
        link.listen(Inbound(self, recipient))

    def _failed(self, error: str, recipient: Recipient) -> None:
        if not self._gone:
            self._lose()
            recipient.deliver(partial(self._on_lost, error), _nothing)
            recipient.deliver(partial(self.dispatch, CloseEvent(GONE, FAILED, False, self)), self._settle_if_closed)

    def _hibernate_by(self, receiver: SocketReceiver, tags: tuple[str, ...]) -> None:
        """Accept the socket on behalf of a Durable Object; JsException where that is not possible."""
        if self._state is State.ACCEPTED:
            raise JsException("Cannot call `acceptWebSocket()` if the WebSocket was already accepted via `accept()`")
        peer = self._peer() if self._peer is not None else None
        if self._state is not State.FREE or peer is None or peer._state is not State.FREE:
            raise JsException(
                "Cannot call `acceptWebSocket()` on this WebSocket because its pair has already been accepted or used "
                "in a Response."
            )
        self._state = State.HIBERNATABLE
        self.tags = tags
        self._link.listen(receiver)

    def _tags(self) -> list[str]:
        """JsException if the socket was not accepted for hibernation."""
        if self._state is State.HIBERNATABLE:
            return list(self.tags)
        if self._state is State.ACCEPTED:
            raise JsException("only hibernatable websockets can have tags.")
        raise JsException("you must call 'acceptWebSocket()' before attempting to access the tags of a WebSocket.")

    def _check_free(self) -> None:
        """TypeError if the socket cannot be returned in a response."""
        if self._state is not State.FREE:
            raise TypeError(f"Can't return WebSocket {_WHY_NOT_RETURNED[self._state]}.")

    def _couple(self, connection: SocketLink) -> None:
        """Let the client's connection take this socket's place."""
        self._check_free()
        self._state = State.RELEASED
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
        self._state = State.ACCEPTED
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


class Inbound:
    """Brings what arrives on an accepted socket to its listeners."""

    __slots__ = ("_recipient", "_socket")

    def __init__(self, socket: SocketEnd, recipient: Recipient) -> None:
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


def _nothing() -> None:
    pass
