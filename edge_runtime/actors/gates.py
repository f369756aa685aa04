"""Input and output gates: what may enter an actor, and what may leave it, when.

State and queues only: no storage, no clock, no tasks. Whoever has to wait gets a Promise. Broken gates stay broken.
Source of the semantics: workerd io-gate.h.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from edge_runtime.promise import Promise

SECTION_DEPTH_MAX: Final = 64  # CF: nesting of blockConcurrencyWhile


class InputGate:
    """Admits events, except while a critical section runs.

    Sections run one after the other in the order of `enter`; waiting sections go before waiting events. A section is
    a gate itself, for what runs inside it: code belongs to the gate of the innermost section around it and may run
    while that gate is open.
    """

    __slots__ = ("_active", "_broken", "_entering", "_waiting", "depth")

    def __init__(self, depth: int = 0) -> None:
        self.depth = depth
        self._active: CriticalSection | None = None
        # Lists: an empty deque takes 600 bytes, and hardly any object has anybody waiting here.
        self._entering: list[Promise[CriticalSection]] = []
        self._waiting: list[Promise[None]] = []
        self._broken: BaseException | None = None

    @property
    def open(self) -> bool:
        return self._active is None and self._broken is None

    def wait_open(self) -> Promise[None]:
        """Resolves, in the order of these calls, when no section runs; look at `open` again after a wait. Rejects when
        the gate breaks."""
        if self._broken is not None:
            return Promise.rejected(self._broken)
        if self._active is None:
            return Promise.resolved(None)
        promise: Promise[None] = Promise()
        self._waiting.append(promise)
        return promise

    def enter(self) -> Promise[CriticalSection]:
        """Begin a critical section as soon as those before it have ended.

        Raises RuntimeError when sections are nested too deep; the promise rejects when the gate breaks.
        """
        if self.depth >= SECTION_DEPTH_MAX:
            raise RuntimeError(f"blockConcurrencyWhile() is nested deeper than {SECTION_DEPTH_MAX} levels")
        if self._broken is not None:
            return Promise.rejected(self._broken)
        if self._active is None:
            self._active = CriticalSection(self)
            return Promise.resolved(self._active)
        promise: Promise[CriticalSection] = Promise()
        self._entering.append(promise)
        return promise

    def break_with(self, error: BaseException) -> None:
        """Fail everything that waits, and every later wait, with `error`."""
        if self._broken is not None:
            return
        self._broken = error
        if self._active is not None:
            self._active.break_with(error)
        while self._entering:
            self._entering.pop(0).reject(error)
        while self._waiting:
            self._waiting.pop(0).reject(error)

    def _left(self, section: CriticalSection) -> None:
        assert section is self._active
        self._active = None
        if self._broken is not None:
            return
        if self._entering:
            self._active = CriticalSection(self)
            self._entering.pop(0).resolve(self._active)
            return
        for _ in range(len(self._waiting)):
            self._waiting.pop(0).resolve(None)


class CriticalSection(InputGate):
    """One run of a blockConcurrencyWhile callback. Made by `InputGate.enter`."""

    __slots__ = ("_outer",)

    def __init__(self, outer: InputGate) -> None:
        super().__init__(outer.depth + 1)
        self._outer = outer

    def leave(self) -> None:
        """The callback has ended; sections that it began and left running are not waited for."""
        self._outer._left(self)


class OutputGate:
    """Lets nothing out before the writes that precede it are durable.

    Writes become durable in the order in which they were begun (the store's promise), so the last one stands for all.
    """

    __slots__ = ("_broken", "_last")

    def __init__(self) -> None:
        self._last: Promise[None] | None = None
        self._broken: BaseException | None = None

    @property
    def open(self) -> bool:
        return self._broken is None and (self._last is None or self._last.settled)

    def hold(self, written: Promise[None]) -> None:
        """Stay closed until `written` has settled. Whether a failure breaks the gate is the caller's to decide, in a
        callback added before this call."""
        self._last = written

    def wait(self) -> Promise[None]:
        """Resolves once every write held so far is durable, later ones not included; rejects when the gate breaks."""
        if self.open:
            return Promise.resolved(None)
        promise: Promise[None] = Promise()

        def pass_or_fail(error: BaseException | None) -> None:
            if error is not None:
                promise.reject(error)
            else:
                promise.resolve(None)

        self.call_when_open(pass_or_fail)
        return promise

    def call_when_open(self, fn: Callable[[BaseException | None], None]) -> None:
        """As `wait`, for a function that gets None or what broke the gate; at once if there is nothing to wait for."""
        last = self._last
        if self._broken is not None or last is None or last.settled:
            fn(self._broken)
        else:
            last.add_done_callback(lambda _: fn(self._broken))

    def break_with(self, error: BaseException) -> None:
        """Let nothing out any more. Those who wait learn of it when the write they wait for has settled."""
        if self._broken is None:
            self._broken = error
