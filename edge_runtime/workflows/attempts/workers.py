"""The tasks that run attempts: a few for all instances of a workflow, kept for those that come.

An attempt that ends without giving up control takes no task of its own, nor a cancel scope: a worker goes on to the
next. One that gives up control keeps the worker's task until it has ended, with the time that it has left.
"""

from __future__ import annotations

import contextvars
import math
from collections import deque
from collections.abc import Coroutine
from typing import Any, Final, Protocol

import trio

from edge_runtime.actors.driving import drive
from edge_runtime.event import EventContext

_PARKED_MAX: Final = 16
_ATTEMPTS_PER_STEP: Final = 64  # before the other tasks of the isolate have their turn


class Job(Protocol):
    """What a worker runs."""

    scope: trio.CancelScope | None
    """Set once the job has given up control: the worker's, which ends it."""

    @property
    def timeout_s(self) -> float:
        """How long it may take."""

    @property
    def context(self) -> contextvars.Context:
        """In force whenever it runs."""

    @property
    def cancelled(self) -> bool:
        """Nobody wants it any more."""

    def run(self) -> Coroutine[Any, Any, None]:
        """Raises nothing but Cancelled."""

    def over(self, *, timed_out: bool) -> None:
        """It has ended, after its time or before. Called as well where it was cancelled before it began."""

    def cut(self) -> None:
        """The worker's task was cancelled."""


class AttemptWorkers:
    def __init__(self) -> None:
        self._waiting: deque[tuple[Job, EventContext]] = deque()
        self._parked: list[trio.lowlevel.Task] = []
        self._begin_pending = False
        """A worker has the right to begin the next job, or will have it in its turn."""
        self._context: contextvars.Context | None = None

    def adopt_context(self) -> None:
        """Called before the first job, where the isolate's own tasks are at home: in such a context the workers run,
        around those of their jobs. The asyncio flavour looks there for its loop."""
        if self._context is None:
            self._context = contextvars.copy_context()

    def begin(self, job: Job, event: EventContext) -> None:
        """Run a job soon. `event`: where a further worker is started, if one is needed."""
        self._waiting.append((job, event))
        if not self._begin_pending:
            self.begin_next()

    def begin_next(self) -> None:
        """Give a worker the right to begin jobs, if any wait."""
        self._begin_pending = bool(self._waiting)
        if self._waiting:
            if self._parked:
                trio.lowlevel.reschedule(self._parked.pop())
            else:
                assert self._context is not None, "a context was adopted"
                self._context.run(self._waiting[0][1].start, _Worker(self).work)

    def next(self) -> Job | None:
        """The next job, for the worker that has the right to begin it; None: nothing is to be begun."""
        if self._waiting:
            return self._waiting.popleft()[0]
        self._begin_pending = False
        return None

    @property
    def enough_parked(self) -> bool:
        return len(self._parked) >= _PARKED_MAX

    async def park(self) -> None:
        """Wait for the right to begin a job."""
        task = trio.lowlevel.current_task()
        self._parked.append(task)

        def unpark(_: object) -> trio.lowlevel.Abort:
            self._parked.remove(task)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(unpark)


class _Worker:
    __slots__ = ("_deadline_s", "_has_right", "_job", "_pool", "_scope", "_suspended")

    def __init__(self, pool: AttemptWorkers) -> None:
        self._pool = pool
        self._scope = trio.CancelScope()
        self._job: Job | None = None
        self._deadline_s = 0.0
        """When the job's time is over, in trio's time."""
        self._has_right = True
        self._suspended = False
        """The job has given up control."""

    async def work(self) -> None:
        while True:
            self._suspended = False
            self._scope = trio.CancelScope()
            try:
                with self._scope:
                    if await self._run_jobs():
                        return
            except BaseException:
                if self._job is not None:
                    self._job.cut()
                raise
            job, self._job = self._job, None
            if job is not None:
                job.over(timed_out=True)

    async def _run_jobs(self) -> bool:
        """Run jobs until the scope is used up: it was cancelled for the job that is left. True: there are workers
        enough."""
        pool, begun = self._pool, 0
        now_s = trio.lowlevel.current_clock().current_time  # two calls less than trio.current_time
        while True:
            job = pool.next() if self._has_right else None
            if job is None:
                if pool.enough_parked:
                    return True
                await pool.park()
                self._has_right, begun = True, 0
                continue
            timed_out = False
            if not job.cancelled:
                self._job = job
                self._deadline_s = now_s() + job.timeout_s
                await drive(job.run(), job.context, self._suspend)
                if self._suspended:
                    if self._scope.cancel_called:
                        return False
                    self._scope.deadline, self._suspended = math.inf, False
                self._job = None
                timed_out = now_s() >= self._deadline_s
            job.over(timed_out=timed_out)
            del job  # it may hold what ends when nobody refers to it
            begun += 1
            if self._has_right and begun >= _ATTEMPTS_PER_STEP:
                begun = 0
                await trio.lowlevel.checkpoint()

    def _suspend(self) -> None:
        job = self._job
        assert job is not None, "a job runs"
        self._has_right, self._suspended = False, True
        job.scope = self._scope
        if job.cancelled:
            self._scope.cancel()
        else:
            self._scope.deadline = self._deadline_s
        self._pool.begin_next()
