"""Turns: stretches of a script between two suspensions. Writes of one turn commit together."""

from __future__ import annotations

from collections.abc import Callable

import trio

from edge_runtime.promise import Promise
from edge_runtime.store.api import Batch


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
    """Calls functions once the running task has given up control: one parked task for all actors of an isolate.

    Waking a parked task is the cheapest way there is to come after the running one: 3 µs, against 9 µs for a task of
    its own and 18 µs for `TrioToken.run_sync_soon`.
    """

    def __init__(self) -> None:
        self._calls: list[Callable[[], None]] = []
        self._parked: trio.lowlevel.Task | None = None

    def soon(self, fn: Callable[[], None]) -> None:
        """Call `fn` in the next pass of the scheduler, in the order of these calls. It must not raise."""
        self._calls.append(fn)
        parked, self._parked = self._parked, None
        if parked is not None:
            trio.lowlevel.reschedule(parked)

    async def run(self) -> None:
        """Until cancelled; calls that are waiting then are made first."""
        try:
            while True:
                self._make_calls()
                self._parked = trio.lowlevel.current_task()
                await trio.lowlevel.wait_task_rescheduled(self._unpark)
        finally:
            self._make_calls()

    def _make_calls(self) -> None:
        while self._calls:
            calls, self._calls = self._calls, []
            for call in calls:
                call()

    def _unpark(self, _: object) -> trio.lowlevel.Abort:
        self._parked = None
        return trio.lowlevel.Abort.SUCCEEDED
