"""Turns: stretches of a script between two suspensions. Writes of one turn commit together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import sniffio
import trio

from edge_runtime.actors.carriers import cancelled_here
from edge_runtime.metering.measure import unmetered
from edge_runtime.promise import Promise
from edge_runtime.store.api import Batch

_DEPTH_MAX: Final = 8  # ours: calls in progress below one another
_EARLY_MAX: Final = 32  # ours: in one pass of the scheduler
_library: Final = sniffio.thread_local


class Turn:
    """What one actor has written since its code last gave up control."""

    __slots__ = ("batch", "confirmed", "durable")

    def __init__(self) -> None:
        self.batch = Batch()
        self.durable: Promise[None] = Promise()
        self.confirmed = False
        """Whether replies wait for it at the output gate."""

    def settled(self, written: Promise[None]) -> None:
        if written.error is None:
            self.durable.resolve(None)
        else:
            self.durable.reject(written.error)


class TurnEnd:
    """Calls functions once the running code has given up control: one parked task for all actors of an isolate.

    Waking a parked task is the cheapest way there is to come after the running one; code that is about to give up
    control itself, and can do so once more if need be, has the calls made at once with `now`.
    """

    def __init__(self) -> None:
        self._calls: list[Callable[[], None]] = []
        self._parked: trio.lowlevel.Task | None = None
        self.over = False
        """No more passes come, only the calls that wait now are made."""
        self._depth = 0
        self._early = 0
        """Times that `now` has made calls since the scheduler's last pass."""

    def soon(self, fn: Callable[[], None]) -> None:
        """Call `fn` in the next pass of the scheduler at the latest, in the order of these calls. It must not raise."""
        self._calls.append(fn)
        parked, self._parked = self._parked, None
        if parked is not None:
            trio.lowlevel.reschedule(parked)

    def now(self) -> None:
        """Make the calls that wait, in the stack of code that is about to give up control; or leave them to the next
        pass, so that other tasks have their turn, stacks stay low and who is cancelled hears of it. The time is not
        charged to that code."""
        if not self._calls or self._depth >= _DEPTH_MAX or self._early >= _EARLY_MAX:
            return
        if _library.name != "asyncio" and not cancelled_here():
            self._early += 1
            unmetered(self._make_calls)

    async def run(self) -> None:
        """Until cancelled; calls that are waiting then are made first."""
        try:
            while True:
                self._early = 0
                self._make_calls()
                if self._calls:
                    await trio.lowlevel.checkpoint()
                else:
                    self._parked = trio.lowlevel.current_task()
                    await trio.lowlevel.wait_task_rescheduled(self._unpark)
        finally:
            self.over = True
            while self._calls:
                self._make_calls()

    def _make_calls(self) -> None:
        """Those that wait now; what they ask for waits for the next time."""
        calls, self._calls = self._calls, []
        self._depth += 1
        try:
            for call in calls:
                call()
        finally:
            self._depth -= 1

    def _unpark(self, _: object) -> trio.lowlevel.Abort:
        self._parked = None
        return trio.lowlevel.Abort.SUCCEEDED
