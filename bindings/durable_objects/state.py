"""`self.ctx` of a Durable Object."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, NoReturn, Protocol

from bindings.durable_objects.facets import Facets
from bindings.durable_objects.sockets import ObjectSockets
from edge_runtime.actors.ids import DurableObjectId
from edge_runtime.actors.storage import ActorStorage
from edge_runtime.promise import Promise
from edge_runtime.workers.context import waitUntil
from edge_runtime.workers.entrypoints import DurableObjectAbort, DurableObjectContext
from edge_runtime.workers.js_date import JsDate
from edge_runtime.workers.js_values import JsDict
from edge_runtime.workers.own_exports import OwnExports, own_exports
from edge_runtime.workers.websocket import WebSocket
from edge_runtime.workers.websocket_pair import WebSocketRequestResponsePair

ABORTED: Final = "Application called abort() to reset Durable Object."


class StateServices(Protocol):
    """What the state needs of the body that it belongs to."""

    def critical_section(self, callback: Callable[[], Any]) -> Promise[Any]: ...

    def reset(self, message: str, *, retry_alarm: bool) -> None: ...

    def hibernatable(self) -> ObjectSockets: ...

    def facets(self) -> Facets: ...


class DurableObjectState(DurableObjectContext):
    container: Final = None
    """There are none here: as on Cloudflare for a class without one."""
    version: Final = None
    """No versions of an object are told apart here: as on Cloudflare without the feature."""

    def __init__(self, id: DurableObjectId | str, storage: ActorStorage, services: StateServices) -> None:
        self.id = id
        self.storage = storage
        self.props = JsDict()
        self._services = services

    @property
    def exports(self) -> OwnExports:
        """The script's own entrypoints and Durable Object classes."""
        return own_exports

    @property
    def facets(self) -> Facets:
        """Objects within this one."""
        return self._services.facets()

    async def configureReadReplication(self, options: Mapping[str, Any] | None = None, *, mode: object = None) -> None:
        """Accepted with the modes "auto" and "disabled", and without effect: all calls go to the one instance.

        TypeError for another mode.
        """
        asked = mode if options is None else options.get("mode", mode)
        if asked not in ("auto", "disabled"):
            raise TypeError(f"configureReadReplication() called with unknown mode setting: {asked}.")

    configure_read_replication = configureReadReplication

    def waitUntil(self, work: Awaitable[Any]) -> None:
        """Keep the object in memory and the event open until `work` has ended, at most 30 s after the reply."""
        waitUntil(work)

    wait_until = waitUntil

    def blockConcurrencyWhile(self, callback: Callable[[], Any]) -> Promise[Any]:
        """Call `callback()` with all other events of this object held back, and return its result.

        Sections run one after the other; they may be nested. If the callback raises or takes more than 30 s, the
        object is reset. In the constructor it need not be awaited: events wait for it all the same.
        """
        if not callable(callback):
            raise TypeError(
                f"blockConcurrencyWhile() takes an async function, not {type(callback).__name__}"
                + ("; pass the function without calling it" if isinstance(callback, Awaitable) else "")
            )
        return self._services.critical_section(callback)

    block_concurrency_while = blockConcurrencyWhile

    def abort(
        self, reason: object = None, options: Mapping[str, Any] | None = None, *, retryAlarm: bool = True
    ) -> NoReturn:
        """Reset the object: unwritten values are dropped, calls in flight fail with `reason`, the next call makes it
        anew. With `retryAlarm` False an alarm handler that calls this is not run again.

        Raises DurableObjectAbort, which `except Exception` does not catch.
        """
        message = ABORTED if reason is None else str(reason)
        retry = retryAlarm if options is None else bool(options.get("retryAlarm", retryAlarm))
        self._services.reset(message, retry_alarm=retry)
        raise DurableObjectAbort(message)

    def acceptWebSocket(self, socket: WebSocket, tags: Iterable[str] | None = None) -> None:
        """Receive a socket's events in `webSocketMessage`, `webSocketClose` and `webSocketError`; the object may be
        evicted meanwhile, and its next event brings it back.

        Args:
            socket: an end of a WebSocketPair of which neither end was used yet.
            tags: at most 10, of at most 256 characters; repeated ones count once.
        """
        self._services.hibernatable().accept(socket, tags)

    def getWebSockets(self, tag: str | None = None) -> list[WebSocket]:
        """The sockets accepted by `acceptWebSocket` that are connected, those with the tag if one is given."""
        return self._services.hibernatable().sockets(tag)

    def getTags(self, socket: WebSocket) -> list[str]:
        return socket._tags()

    def setWebSocketAutoResponse(self, pair: WebSocketRequestResponsePair | None = None) -> None:
        """Have messages equal to the pair's request answered with its response without an event; None: no more."""
        self._services.hibernatable().set_auto_response(pair)

    def getWebSocketAutoResponse(self) -> WebSocketRequestResponsePair | None:
        return self._services.hibernatable().auto_response

    def getWebSocketAutoResponseTimestamp(self, socket: WebSocket) -> JsDate | None:
        """When the socket was last given an automatic response."""
        return None if socket.auto_response_ms is None else JsDate(socket.auto_response_ms)

    def setHibernatableWebSocketEventTimeout(self, timeoutMs: int | None = None) -> None:
        """Cancel handlers of socket events after this many milliseconds; None and 0: do not."""
        self._services.hibernatable().set_event_timeout(timeoutMs)

    def getHibernatableWebSocketEventTimeout(self) -> int | None:
        return self._services.hibernatable().event_timeout_ms

    accept_web_socket, get_web_sockets, get_tags = acceptWebSocket, getWebSockets, getTags
    set_web_socket_auto_response, get_web_socket_auto_response = setWebSocketAutoResponse, getWebSocketAutoResponse
    get_web_socket_auto_response_timestamp = getWebSocketAutoResponseTimestamp
    set_hibernatable_web_socket_event_timeout = setHibernatableWebSocketEventTimeout
    get_hibernatable_web_socket_event_timeout = getHibernatableWebSocketEventTimeout

    def __repr__(self) -> str:
        return f"<DurableObjectState of {self.id!r}>"
