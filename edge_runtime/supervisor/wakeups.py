"""Waking workers whose isolate was evicted, or has not run since the start, when one of their timers is due."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import trio

from edge_runtime.actors.timers import next_due_ms
from edge_runtime.limits import TIMER_LOOK_S, WORKFLOW_RESUME_MS
from edge_runtime.seams import Clock
from edge_runtime.store.api import Store
from edge_runtime.supervisor.worker import Worker


class Wakeups:
    """Looks into the timer index, read-only, for every worker that sleeps.

    The first look at a worker also wakes it if its timer is near: workflow instances that ran when the last process
    ended have one within WORKFLOW_RESUME_MS, and their isolate goes on with them as soon as it starts.
    """

    def __init__(self, store: Store, clock: Clock, workers: Callable[[], Iterable[Worker]]) -> None:
        self._store = store
        self._clock = clock
        self._workers = workers
        self._look_now = trio.Event()
        self._seen: set[str] = set()

    def look_now(self) -> None:
        """Somebody wrote timers."""
        self._look_now.set()

    async def run(self) -> None:
        while True:
            wait_s = self._wake_due()
            with trio.move_on_after(wait_s):
                await self._look_now.wait()
            self._look_now = trio.Event()

    def _wake_due(self) -> float:
        """Returns after how many seconds to look again: when the next known timer is due, but soon, since other
        processes write timers too."""
        sleeping = [worker for worker in self._workers() if worker.asleep]
        if not sleeping:
            return TIMER_LOOK_S
        now_ms = self._clock.now_ms()
        wait_s = TIMER_LOOK_S
        with self._store.snapshot() as snapshot:
            for worker in sleeping:
                first = worker.name not in self._seen
                self._seen.add(worker.name)
                due_ms = next_due_ms(snapshot, worker.name)
                if due_ms is None:
                    continue
                if due_ms <= now_ms or (first and due_ms <= now_ms + WORKFLOW_RESUME_MS):
                    worker.wake()
                else:
                    wait_s = min(wait_s, (due_ms - now_ms) / 1000)
        return wait_s
