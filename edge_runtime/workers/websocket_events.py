"""The events of WebSockets as listeners get them, and the keeping and calling of listeners."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from edge_runtime.workers.js_object import JsException, JsObject


class Event(JsObject):
    """Something that happened to `target`."""

    __slots__ = ("target", "type")

    def __init__(self, type: str, target: Any = None) -> None:
        self.type = type
        self.target = target

    @property
    def currentTarget(self) -> Any:
        return self.target

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.type}>"


class MessageEvent(Event):
    """`data`: str for a text message; ArrayBuffer or Blob for a binary one, as the socket's `binaryType` says."""

    __slots__ = ("data",)

    def __init__(self, data: Any, target: Any = None) -> None:
        super().__init__("message", target)
        self.data = data


class CloseEvent(Event):
    """The other side closed (`wasClean`) or is gone (code 1006)."""

    __slots__ = ("code", "reason", "wasClean")

    def __init__(self, code: int, reason: str, wasClean: bool, target: Any = None) -> None:
        super().__init__("close", target)
        self.code = code
        self.reason = reason
        self.wasClean = wasClean


class ErrorEvent(Event):
    __slots__ = ("error", "message")

    def __init__(self, error: JsException, target: Any = None) -> None:
        super().__init__("error", target)
        self.error = error
        self.message = error.message


class EventTarget(JsObject):
    """Keeps listeners. `target.on<type> = fn` is one more of them. Attributes of the script's own are allowed."""

    __slots__ = ("__dict__", "_listeners")

    onopen: Any = None
    onmessage: Any = None
    onclose: Any = None
    onerror: Any = None

    def __init__(self) -> None:
        self._listeners: dict[str, list[tuple[Any, bool]]] | None = None

    def addEventListener(
        self, type: str, listener: Any, options: Mapping[str, Any] | bool | None = None, **more: Any
    ) -> None:
        """Call `listener(event)` at each event of the type; sync or async, or an object with `handleEvent`. Added
        twice, it is called once. With the option `once` it is called at the next event only."""
        if listener is None:
            return
        if not callable(listener) and not hasattr(listener, "handleEvent"):
            raise TypeError(
                "Failed to execute 'addEventListener' on 'EventTarget': parameter 2 is not of type 'EventListener'."
            )
        given = {**(options if isinstance(options, Mapping) else {}), **more}
        if self._listeners is None:
            self._listeners = {}
        kept = self._listeners.setdefault(str(type), [])
        if all(known != listener for known, _ in kept):
            kept.append((listener, bool(given.get("once"))))

    def removeEventListener(self, type: str, listener: Any, _options: object = None) -> None:
        kept = (self._listeners or {}).get(str(type), [])
        kept[:] = [item for item in kept if item[0] != listener]

    def dispatch(self, event: Event) -> Awaitable[None] | None:
        """Call the listeners; returns what is to be awaited of the async ones.

        Every listener is called, whatever the others raise; then the first error is raised.
        """
        failure: BaseException | None = None
        pending: list[Awaitable[Any]] = []
        for listener in self._take(event.type):
            try:
                result = listener(event)
            except BaseException as error:
                failure = failure or error
                continue
            if isinstance(result, Awaitable):
                pending.append(result)
        if not pending:
            if failure is not None:
                raise failure
            return None
        return _all_of(pending, failure)

    def _take(self, type: str) -> list[Callable[[Event], Any]]:
        found: list[Callable[[Event], Any]] = []
        own = getattr(self, f"on{type}", None)
        if callable(own):
            found.append(own)
        kept = (self._listeners or {}).get(type, [])
        found += [listener if callable(listener) else listener.handleEvent for listener, _ in kept]
        kept[:] = [item for item in kept if not item[1]]
        return found


async def _all_of(pending: list[Awaitable[Any]], failure: BaseException | None) -> None:
    for work in pending:
        try:
            await work
        except Exception as error:
            failure = failure or error
    if failure is not None:
        raise failure
