"""The limit on how many instances of a workflow run at once, and whose turn it is next.

Instances that wait for a time or an event do not count. Those that go on come before those that have not begun;
otherwise the oldest is next. Source: Cloudflare's `workflows[].concurrency`.

Who has not begun is read from the store when a slot is free, so a long queue costs no memory. All instances of a
workflow live in one isolate, so its slots do.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from edge_runtime.promise import Promise
from edge_runtime.seams import Clock
from edge_runtime.store.api import Store
from edge_runtime.workflows.stored import instances
from edge_runtime.workflows.stored.instances import InstanceRecord, Status


class Slots:
    """The slots of one workflow. `wake` has an instance look whether it may go on; it takes its slot then."""

    def __init__(
        self,
        limit: int,
        store: Store,
        clock: Clock,
        worker: str,
        workflow: str,
        wake: Callable[[str], Promise[object]],
        runs_here: Callable[[InstanceRecord], bool],
    ) -> None:
        """`worker` is the name under which the instances are stored; some of them may run in another version."""
        self._limit = limit
        self._store = store
        self._clock = clock
        self._worker = worker
        self._workflow = workflow
        self._wake = wake
        self._runs_here = runs_here
        self._taken: set[str] = set()
        self._going_on: dict[str, None] = {}
        self._filling = False

    def take(self, id: str, *, resuming: bool) -> bool:
        """Whether the instance may run. If not, it is woken when it may."""
        if id in self._taken:
            return True
        if len(self._taken) < self._limit and (resuming or not self._going_on):
            self._going_on.pop(id, None)
            self._taken.add(id)
            return True
        if resuming:
            self._going_on.setdefault(id)
        return False

    def release(self, id: str) -> None:
        """The instance does not run, or no longer. No effect if it has no slot."""
        if id in self._taken:
            self._taken.discard(id)
            self._fill()

    def _fill(self) -> None:
        if self._filling:
            # Waking an instance may release its slot at once.
            return
        self._filling = True
        try:
            while len(self._taken) < self._limit and (id := self._next()) is not None:
                self._going_on.pop(id, None)
                self._taken.add(id)
                woken = self._wake(id)
                woken.add_done_callback(partial(self._woken, id))
                if woken.settled and woken.error is not None:
                    # The actors are being released, or something is wrong with all of them.
                    break
        finally:
            self._filling = False

    def _next(self) -> str | None:
        if self._going_on:
            return next(iter(self._going_on))
        now_ms = self._clock.now_ms()
        with self._store.snapshot() as snapshot:
            queued = instances.scan(snapshot, self._worker, self._workflow, Status.QUEUED, reverse=True)
            for id, record in queued:
                if id not in self._taken and record.not_before_ms <= now_ms and self._runs_here(record):
                    return id
        return None

    def _woken(self, id: str, reply: Promise[object]) -> None:
        if reply.error is not None:
            # Nobody else is woken for it: its own timer is the next attempt.
            self._taken.discard(id)
