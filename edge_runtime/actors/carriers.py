"""Code that runs where it is called for as long as it does not suspend, and as a task of its own from then on.

To wake a task and to be woken by it takes two passes of the scheduler, more than most calls of an object take
themselves. So the first step of a piece of work is taken in the stack of whoever lets it begin, under the identity of a
`Carrier`, a task that is parked meanwhile: cancel scopes, nurseries and waits of the work belong to that task. If the
work suspends, the carrier waits in its place and goes on with it when woken.

That is what trio does with a task, done a little earlier; the few private names of trio that it takes are below, and
are looked for when this is imported.
"""

from __future__ import annotations

import contextvars
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Final

import outcome
import trio
from trio._core import _run, _traps

_GLOBAL: Final = _run.GLOBAL_RUN_CONTEXT
_WAIT: Final = _traps.WaitTaskRescheduled
_CHECKPOINT: Final = _traps.CancelShieldedCheckpoint
_OF_TASK: Final = ("_abort_func", "_attempt_delivery_of_any_pending_cancel", "_cancel_points", "_schedule_points")

_SPARE: Final = 2  # ours: carriers made ahead of need
_KEPT: Final = 12  # ours: parked carriers; a parked task takes about 4 kB

if missing := [name for name in _OF_TASK if not hasattr(trio.lowlevel.Task, name)]:
    raise RuntimeError(f"trio {trio.__version__} lacks Task.{missing[0]}, which actors need; allowed: 0.34, 0.35")

Work = Coroutine[Any, Any, None]


def cancelled_here() -> bool:
    """Whether the running task would be cancelled where it waits next."""
    cancelled: bool = _GLOBAL.task._cancel_status.effectively_cancelled
    return cancelled


class Carriers:
    """The carriers of one host; `open` and `close` frame their life."""

    def __init__(self) -> None:
        self._idle: list[Carrier] = []
        self._starting = 0
        self._nursery: trio.Nursery | None = None
        self._context = contextvars.Context()

    def open(self, nursery: trio.Nursery) -> None:
        """Carry in tasks of this nursery from now on; the current context is theirs."""
        self._nursery = nursery
        self._context = contextvars.copy_context()
        self._start(_SPARE)

    def close(self) -> None:
        """The nursery has ended."""
        self._nursery = None

    def take(self) -> Carrier | None:
        """A carrier to begin work on at once; None: try again in the next pass of the scheduler."""
        idle = self._idle
        if len(idle) + self._starting < _SPARE and self._nursery is not None:
            self._start(_SPARE)
        return idle.pop() if idle else None

    def _start(self, count: int) -> None:
        assert self._nursery is not None
        self._starting += count
        for _ in range(count):
            self._context.run(self._nursery.start_soon, self._live)

    async def _live(self) -> None:
        self._starting -= 1
        carrier = Carrier(self, trio.lowlevel.current_task())
        with carrier._scope:
            await carrier._carry()

    def _parked(self, carrier: Carrier) -> bool:
        """Keep a carrier for later; False: there are enough."""
        if len(self._idle) >= _KEPT:
            return False
        self._idle.append(carrier)
        return True

    def _unparked(self, carrier: Carrier) -> None:
        if carrier in self._idle:
            self._idle.remove(carrier)


class Carrier:
    """A task that is parked, or goes on with work that has suspended."""

    __slots__ = ("_cancelled", "_carriers", "_context", "_over", "_refused", "_scope", "_task", "_work")

    def __init__(self, carriers: Carriers, task: trio.lowlevel.Task) -> None:
        self._scope = trio.CancelScope()
        self._cancelled = False
        self._carriers = carriers
        self._task: Any = task
        self._work: Work | None = None
        self._refused: Exception | None = None
        self._context: contextvars.Context
        self._over: Callable[[Carrier], None]

    def begin(self, work: Work, context: contextvars.Context, over: Callable[[Carrier], None]) -> bool:
        """Take the first step of `work`, in `context`, here and now; whether it has suspended. `over(self)` is called
        when that has ended. What the work raises ends the host, so it should raise nothing but trio's Cancelled."""
        task = self._task
        outer = _GLOBAL.task
        _GLOBAL.task = task
        # As while a task runs: a cancellation is delivered when it waits next.
        task._abort_func = None
        try:
            trap = context.run(work.send, None)
        except StopIteration:
            task._abort_func = self._unpark
            if self._cancelled or not self._carriers._parked(self):
                self.cancel()
                task._attempt_delivery_of_any_pending_cancel()
            return False
        except BaseException as error:
            trio.lowlevel.reschedule(task, outcome.Error(error))
            return False
        finally:
            _GLOBAL.task = outer
        self._work, self._context, self._over = work, context, over
        task._schedule_points += 1
        if trap is _CHECKPOINT:
            trio.lowlevel.reschedule(task)
        elif type(trap) is _WAIT:
            task._cancel_points += 1
            task._abort_func = trap.abort_func
            task._attempt_delivery_of_any_pending_cancel()
        else:
            self._refused = TypeError(
                f"{trap!r} was awaited, which trio does not know; code that waits for asyncio's objects needs the "
                "flavour asyncio"
            )
            trio.lowlevel.reschedule(task)
        return True

    def cancel(self) -> None:
        """End the work that is carried, and the carrier."""
        self._cancelled = True
        self._scope.cancel()

    @types.coroutine
    def _carry(self) -> Generator[Any, Any, None]:
        """Park, and go on with what was begun here whenever it is woken; until cancelled."""
        while not self._cancelled and self._carriers._parked(self):
            sent = yield _WAIT(self._unpark)
            work = self._work
            if work is None:
                sent.unwrap()
                raise AssertionError("a parked carrier is woken by its end only")
            try:
                refused, self._refused = self._refused, None
                yield from _go_on(work, self._context, sent, refused)
            finally:
                self._work = None
                self._over(self)

    def _unpark(self, _: object) -> trio.lowlevel.Abort:
        self._carriers._unparked(self)
        return trio.lowlevel.Abort.SUCCEEDED


def _go_on(work: Work, context: contextvars.Context, sent: Any, refused: Exception | None) -> Generator[Any, Any, None]:
    """Resume `work` in its context, by `refused` if that is given, until it has ended."""
    run, send = context.run, work.send
    resume: Callable[[Any], Any] = send
    if refused is not None:
        resume, sent = work.throw, refused
    while True:
        try:
            trap = run(resume, sent)
        except StopIteration:
            return
        try:
            sent = yield trap
            resume = send
        except BaseException as error:
            resume, sent = work.throw, error
