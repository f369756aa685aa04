"""WebSockets that a Durable Object has accepted for hibernation, and the events of those it has accepted plainly.

Hibernatable sockets belong to the object, not to its activation: they are kept here, beside the host, while the object
is evicted, and a message activates it again. They end with their connection, with a reset of the object, and with the
isolate. Source: workerd io/hibernation-manager.c++.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

from bindings.durable_objects.messages import ListenerCall, SocketEvent
from edge_runtime.actors.api import ActorAddress, ActorContext, ActorHost
from edge_runtime.errors import ActorBroken
from edge_runtime.event import EventContext
from edge_runtime.limits import (
    HIBERNATABLE_SOCKETS_MAX,
    WEBSOCKET_AUTO_RESPONSE_MAX,
    WEBSOCKET_EVENT_TIMEOUT_MAX_MS,
    WEBSOCKET_TAG_MAX,
    WEBSOCKET_TAGS_MAX,
)
from edge_runtime.promise import Promise
from edge_runtime.seams import Clock
from edge_runtime.workers.buffers import ArrayBuffer
from edge_runtime.workers.js_object import JsException
from edge_runtime.workers.websocket import WebSocket
from edge_runtime.workers.websocket_end import DISCONNECTED, GONE
from edge_runtime.workers.websocket_link import Handled, message_bytes
from edge_runtime.workers.websocket_pair import WebSocketRequestResponsePair
from edge_runtime.workers.websocket_recipient import Recipient, SocketFlags

_TRY_AGAIN_LATER: Final = 1013


class NamespaceSockets:
    """The sockets of all objects of one class in this isolate."""

    def __init__(self, host: ActorHost, clock: Clock) -> None:
        self.host = host
        self.clock = clock
        self._objects: dict[ActorAddress, ObjectSockets] = {}
        host.on_release(self._released)

    def _released(self, kept: Callable[[ActorAddress], bool]) -> None:
        """Objects have moved to other isolates: their sockets stay behind, so they are cut off."""
        for address in [address for address in self._objects if not kept(address)]:
            self.reset(address)

    def find(self, address: ActorAddress) -> ObjectSockets | None:
        return self._objects.get(address)

    def open(self, address: ActorAddress, name: str | None) -> ObjectSockets:
        """The object's sockets; made now if it never had any."""
        found = self._objects.get(address)
        if found is None:
            found = self._objects[address] = ObjectSockets(self, address)
        found.name = name or found.name
        return found

    def evicted(self, address: ActorAddress) -> None:
        """The object is no longer in memory; what it had put on its sockets besides attachments goes too."""
        found = self._objects.get(address)
        if found is None:
            return
        for socket in found.sockets():
            vars(socket).clear()
        if not found:
            del self._objects[address]

    def reset(self, address: ActorAddress) -> None:
        """The object was reset: its sockets are cut off."""
        found = self._objects.pop(address, None)
        for socket in found.sockets() if found is not None else ():
            socket._drop()


class ObjectSockets:
    """Hibernatable sockets of one object, and what it has set for them."""

    def __init__(self, namespace: NamespaceSockets, address: ActorAddress) -> None:
        self.address = address
        self.name: str | None = None
        self.auto_response: WebSocketRequestResponsePair | None = None
        self.event_timeout_ms: int | None = None
        self._namespace = namespace
        self._sockets: dict[WebSocket, None] = {}
        self._tagged: dict[str, dict[WebSocket, None]] = {}

    def __len__(self) -> int:
        return len(self._sockets)

    def accept(self, socket: WebSocket, tags: Iterable[object] | None) -> None:
        """JsException (an Error to scripts) for too many sockets or tags, a tag that is too long, a socket in use."""
        if not isinstance(socket, WebSocket):
            raise TypeError(f"acceptWebSocket() takes an end of a WebSocketPair, not {type(socket).__name__}")
        distinct = _distinct(tags)
        if len(self._sockets) >= HIBERNATABLE_SOCKETS_MAX:
            raise JsException(
                f"only {HIBERNATABLE_SOCKETS_MAX} websockets can be accepted on a single Durable Object instance"
            )
        self._sockets[socket] = None
        try:
            socket._hibernate_by(_Hibernating(self, socket), distinct)
        except BaseException:
            del self._sockets[socket]
            raise
        for tag in distinct:
            self._tagged.setdefault(tag, {})[socket] = None

    def sockets(self, tag: str | None = None) -> list[WebSocket]:
        """In the order they were accepted."""
        return list(self._sockets if tag is None else self._tagged.get(tag, ()))

    def remove(self, socket: WebSocket) -> None:
        self._sockets.pop(socket, None)
        for tag in socket.tags:
            tagged = self._tagged.get(tag, {})
            tagged.pop(socket, None)
            if not tagged:
                self._tagged.pop(tag, None)

    def set_auto_response(self, pair: WebSocketRequestResponsePair | None) -> None:
        """ValueError (a RangeError on Cloudflare) for texts that are too long."""
        if pair is not None:
            if not isinstance(pair, WebSocketRequestResponsePair):
                raise TypeError(
                    "setWebSocketAutoResponse() takes a WebSocketRequestResponsePair or nothing, "
                    f"not {type(pair).__name__}"
                )
            for what, text in (("request", pair.request), ("response", pair.response)):
                size = len(text.encode("utf-8", "surrogatepass"))
                if size > WEBSOCKET_AUTO_RESPONSE_MAX:
                    raise ValueError(
                        f"{what.capitalize()} cannot be larger than {WEBSOCKET_AUTO_RESPONSE_MAX} bytes. "
                        f"A {what} of size {size} was provided."
                    )
        self.auto_response = pair

    def set_event_timeout(self, timeout_ms: int | None) -> None:
        if timeout_ms is not None and timeout_ms > WEBSOCKET_EVENT_TIMEOUT_MAX_MS:
            raise JsException(f"Event timeout should not exceed {WEBSOCKET_EVENT_TIMEOUT_MAX_MS} ms.")
        self.event_timeout_ms = timeout_ms or None

    def answered(self, socket: WebSocket, data: str | bytes) -> bool:
        """Give a message its automatic response, if it has one."""
        pair = self.auto_response
        if pair is None or data != pair.request:
            return False
        if socket._respond(pair.response):
            socket.auto_response_ms = self._namespace.clock.now_ms()
        return True

    def deliver(self, event: SocketEvent, handled: Handled | None) -> None:
        """Bring an event to the object, which is activated for it if it is not in memory."""
        reply = self._namespace.host.deliver(self.address, event, name=self.name)
        reply.add_done_callback(partial(self._delivered, event, handled))

    def _delivered(self, event: SocketEvent, handled: Handled | None, reply: Promise[object]) -> None:
        if not event.begun:
            event.begin()
            if isinstance(reply.error, ActorBroken) and reply.error.overloaded:
                # A message is lost, so the conversation cannot go on as if it were not.
                event.socket._link.close(_TRY_AGAIN_LATER, str(reply.error))
        if handled is not None:
            handled()


class _Hibernating:
    """Brings what arrives on a hibernatable socket to its object."""

    __slots__ = ("_of", "_socket")

    def __init__(self, of: ObjectSockets, socket: WebSocket) -> None:
        self._of = of
        self._socket = socket

    def message(self, data: str | bytes, handled: Handled | None) -> None:
        if self._of.answered(self._socket, data):
            if handled is not None:
                handled()
            return
        content = ArrayBuffer(data) if isinstance(data, bytes) else data
        event = SocketEvent(self._socket, "webSocketMessage", (content,), size=message_bytes(data))
        self._of.deliver(event, handled)

    def close(self, code: int, reason: str) -> None:
        closing = partial(self._closing, code, reason)
        self._of.deliver(SocketEvent(self._socket, "webSocketClose", (code, reason, True), closing), None)

    def _closing(self, code: int, reason: str) -> None:
        self._of.remove(self._socket)
        self._socket._incoming_closed(code, reason)
        self._socket._settle_if_closed()

    def lost(self, error: str | None) -> None:
        socket = self._socket
        if socket.closed.settled:
            return
        socket._lose()
        self._of.remove(socket)
        if error is None:
            event = SocketEvent(socket, "webSocketClose", (GONE, DISCONNECTED, False), socket._settle_if_closed)
        else:
            event = SocketEvent(socket, "webSocketError", (JsException(error),), socket._settle_if_closed)
        self._of.deliver(event, None)


class ObjectRecipients:
    """`workers.websocket.Recipients` for one activation: plainly accepted sockets live and end with it."""

    def __init__(self, owner: object, context: ActorContext, host: ActorHost, flags: SocketFlags) -> None:
        self.flags = flags
        self._owner = owner
        self._context = context
        self._host = host
        self._open: set[WebSocket] | None = None

    def recipient(self, event: EventContext, socket: WebSocket) -> Recipient:
        if self._open is None:
            self._open = set()
        self._open.add(socket)
        socket.closed.add_done_callback(partial(self._closed, socket))
        return _Listener(self, event.name.rpartition(".")[2])

    def deliver(self, name: str, call: Callable[[], Any], handled: Handled) -> None:
        context = self._context
        if context.closed.settled:
            handled()
            return
        reply = self._host.deliver(context.address, ListenerCall(self._owner, name, call), name=context.name)
        reply.add_done_callback(lambda _: handled())

    def end(self) -> None:
        """The activation is over."""
        for socket in tuple(self._open or ()):
            socket._drop()

    def _closed(self, socket: WebSocket, _: Promise[None]) -> None:
        if self._open is not None:
            self._open.discard(socket)


class _Listener:
    __slots__ = ("_name", "_recipients")

    def __init__(self, recipients: ObjectRecipients, name: str) -> None:
        self._recipients = recipients
        self._name = name

    def deliver(self, call: Callable[[], Any], handled: Handled) -> None:
        self._recipients.deliver(self._name, call, handled)


def _distinct(tags: Iterable[object] | None) -> tuple[str, ...]:
    seen: dict[str, None] = {}
    for tag in tags or ():
        text = str(tag)
        if len(text) > WEBSOCKET_TAG_MAX:
            raise JsException(f'"{text}" is longer than the max tag length ({WEBSOCKET_TAG_MAX} characters).')
        if text not in seen and len(seen) >= WEBSOCKET_TAGS_MAX:
            raise JsException(f"a Hibernatable WebSocket cannot have more than {WEBSOCKET_TAGS_MAX} tags")
        seen[text] = None
    return tuple(seen)
