"""AbortController and AbortSignal: ending a fetch from elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

from edge_runtime.event import require_event
from edge_runtime.workers.js_object import JsException, JsObject


class AbortError(OSError):
    """What a fetch raises whose signal fired; known to scripts as `pyodide.http.AbortError`."""


class AbortSignal(JsObject):
    """Fires once, with a reason."""

    __slots__ = ("_callbacks", "aborted", "onabort", "reason")

    def __init__(self) -> None:
        self.aborted = False
        self.reason: Any = None
        self.onabort: Callable[[Any], object] | None = None
        self._callbacks: list[Callable[[], object]] = []

    @classmethod
    def timeout(cls, ms: float) -> AbortSignal:
        """A signal that fires after `ms` milliseconds, unless the event ends first."""
        signal = cls()

        async def fire_later() -> None:
            await trio.sleep(ms / 1000)
            signal.fire(JsException("The operation was aborted due to timeout", "TimeoutError"))

        require_event("AbortSignal.timeout()").spawn(fire_later)
        return signal

    @classmethod
    def abort(cls, reason: Any = None) -> AbortSignal:
        signal = cls()
        signal.fire(reason)
        return signal

    @classmethod
    def any(cls, signals: list[AbortSignal]) -> AbortSignal:
        """A signal that fires with the first of `signals`."""
        first = cls()
        for signal in signals:
            signal.when_aborted(lambda signal=signal: first.fire(signal.reason))  # type: ignore[misc]
        return first

    def fire(self, reason: Any = None) -> None:
        if self.aborted:
            return
        self.aborted = True
        self.reason = JsException("The operation was aborted", "AbortError") if reason is None else reason
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()
        if self.onabort is not None:
            self.onabort(self)

    def when_aborted(self, callback: Callable[[], object]) -> None:
        """Call back when the signal fires; at once if it has."""
        if self.aborted:
            callback()
        else:
            self._callbacks.append(callback)

    def addEventListener(self, kind: str, listener: Callable[[Any], object], *_options: object) -> None:
        if kind == "abort":
            self._callbacks.append(lambda: listener(self))

    def throwIfAborted(self) -> None:
        if self.aborted:
            raise self.reason if isinstance(self.reason, BaseException) else JsException(str(self.reason))

    def error(self) -> AbortError:
        return AbortError(str(self.reason))


class AbortController(JsObject):
    """Owns a signal and fires it."""

    __slots__ = ("signal",)

    def __init__(self) -> None:
        self.signal = AbortSignal()

    def abort(self, reason: Any = None) -> None:
        self.signal.fire(reason)
