"""The asyncio event loop of an isolate, on top of trio.

It is trio-asyncio's loop, with what a server of foreign scripts needs beyond it: a task's first step can be taken at
once (`start`), callbacks run in batches as asyncio does it, a script's `sys.exit()` or failed background task does not
end the loop, foreign executors work, and tasks and callbacks are charged to the event that they belong to.

Private parts of trio-asyncio are touched here and in `asyncio_flavour`, which checks that they are there.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import functools
import heapq
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar, cast

import sniffio
import trio
import trio_asyncio
from trio_asyncio._base import TrioAsyncioExit
from trio_asyncio._handles import AsyncHandle

from edge_runtime.isolate.first_step import FirstStep
from edge_runtime.isolate.loop_callbacks import TASK_STEP, TASK_WAKEUP, Crossing, charged_in, measured, metered
from edge_runtime.metering.measure import MeteredCoroutine
from edge_runtime.promise import Promise

T = TypeVar("T")

_CANCELLED_TIMERS_MIN: Final = 100
"""Cancelled timers are swept out of the heap once there are so many and they are more than half of it, as asyncio
does: a script that opens `asyncio.timeout(3600)` for every request would fill the memory otherwise."""


class ScriptLoop(trio_asyncio.TrioEventLoop):  # type: ignore[misc]
    """An asyncio loop that runs scripts. Made by `asyncio_flavour` from an open trio-asyncio loop."""

    _runnable: deque[asyncio.Handle]
    _parked: trio.lowlevel.Task | None
    _making_task: bool
    _begin_task: Callable[[], object] | None
    first_step: FirstStep[Any] | None
    """Whose code is running, if it is a coroutine's first step."""
    _cancelled_timers: int
    _threads: trio.CapacityLimiter
    _executor: concurrent.futures.Executor | None
    closing: bool
    ended: asyncio.Future[None]
    """Settled when the loop closes, as the main task of `asyncio.run` is; anyio ties its threads to it."""

    def make_task(self, coro: Any, context: contextvars.Context) -> tuple[asyncio.Task[Any], Callable[[], object]]:
        """A task that is not begun by the loop, and what begins it; call that with `context` as the current one."""
        self._making_task = True
        try:
            task = asyncio.Task(coro, loop=self, context=context)
        finally:
            self._making_task = False
        begin, self._begin_task = self._begin_task, None
        assert begin is not None, "a task asks to be begun when it is made"
        return task, begin

    # Scheduling

    def call_soon(
        self,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        kind = type(callback)
        if kind is Crossing:
            callback(*args)
            return cast(asyncio.Handle, None)  # asyncio's own caller, a finished task, does not look at it
        if kind is TASK_STEP:
            if self._making_task:
                self._begin_task = callback
                return cast(asyncio.Handle, None)
        elif kind is not TASK_WAKEUP:
            callback = metered(callback, context)
        handle = asyncio.Handle(callback, args, self, context)
        self._queue_handle(handle)
        return handle

    def call_soon_threadsafe(
        self,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        self._check_closed()
        handle = asyncio.Handle(metered(callback, context), args, self, context)
        self._token.run_sync_soon(self._queue_if_open, handle)
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        if delay is None:
            raise TypeError("delay must not be None")
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        if when is None:
            raise TypeError("when cannot be None")
        self._check_callback(callback, "call_at")
        handle = asyncio.TimerHandle(when, metered(callback, context), args, self, context)
        self._queue_handle(handle)
        return handle

    def _queue_handle(self, handle: asyncio.Handle) -> asyncio.Handle:
        if self._closed:
            self._check_closed()
        if isinstance(handle, asyncio.TimerHandle):
            heapq.heappush(self._timers, handle)
            handle._scheduled = True  # type: ignore[attr-defined]
            if self._timers[0] is handle:
                self._wake()
        else:
            self._runnable.append(handle)
            self._wake()
        return handle

    def _queue_if_open(self, handle: asyncio.Handle) -> None:
        if not self._closed:
            self._queue_handle(handle)

    def _handle_sig(self, sig: int, _: object) -> None:
        self._token.run_sync_soon(self._queue_if_open, self._signal_handlers[sig])

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        if not handle._scheduled:  # type: ignore[attr-defined]
            return
        self._cancelled_timers += 1
        timers = self._timers
        if self._cancelled_timers > _CANCELLED_TIMERS_MIN and self._cancelled_timers * 2 > len(timers):
            # `cancel` calls this before it marks the handle, so the handle itself is still among those kept.
            timers[:] = [timer for timer in timers if not timer.cancelled()]
            heapq.heapify(timers)
            self._cancelled_timers = 1

    def _wake(self) -> None:
        if self._parked is not None:
            task, self._parked = self._parked, None
            try:
                trio.lowlevel.reschedule(task)
            except RuntimeError:
                # A script called from another thread what is not meant for that. asyncio notices late, but it does.
                self._parked = task
                self._token.run_sync_soon(self._wake)

    def _unpark(self, _: object) -> trio.lowlevel.Abort:
        self._parked = None
        return trio.lowlevel.Abort.SUCCEEDED

    async def _park(self) -> None:
        """Wait for a handle or the first timer; returns now and then without either."""
        self._parked = trio.lowlevel.current_task()
        if self._timers:
            with trio.CancelScope(deadline=self._timers[0].when()):
                await trio.lowlevel.wait_task_rescheduled(self._unpark)
        else:
            await trio.lowlevel.wait_task_rescheduled(self._unpark)

    async def _main_loop_one(self, no_wait: bool = False) -> None:
        """Run the handles that are due, those they add left for the next turn: asyncio's order, at its price."""
        runnable = self._runnable
        if self._timers:
            self._take_due_timers()
        if not runnable:
            if no_wait:
                raise trio.WouldBlock
            await self._park()
            return
        local = sniffio.thread_local
        for _ in range(len(runnable)):
            handle = runnable.popleft()
            if isinstance(handle, AsyncHandle):
                handle._context.run(self._nursery.start_soon, handle._run, name=handle._callback)
                await handle._started.wait()
            elif not handle.cancelled():
                outer, local.name = local.name, "asyncio"
                try:
                    handle._run()
                except TrioAsyncioExit:
                    raise
                except (SystemExit, KeyboardInterrupt) as error:
                    self._contain(handle, error)
                    handle.cancel()  # it holds the task, which holds the error, whose traceback holds it
                finally:
                    local.name = outer
        del handle
        if runnable and not no_wait:
            await trio.lowlevel.cancel_shielded_checkpoint()

    def _take_due_timers(self) -> None:
        timers, now = self._timers, self.time()
        while timers and timers[0].when() <= now:
            timer = heapq.heappop(timers)
            timer._scheduled = False
            if timer.cancelled():
                self._cancelled_timers -= 1
            else:
                self._runnable.append(timer)

    def _contain(self, handle: asyncio.Handle, error: BaseException) -> None:
        """asyncio would end the process here. A task has kept the error for who awaits it; a callback has nobody."""
        if not isinstance(getattr(handle._callback, "__self__", None), asyncio.Task):  # type: ignore[attr-defined]
            message = f"{type(error).__name__} in a callback"
            self.default_exception_handler({"message": message, "exception": error, "handle": handle})

    async def _io_task(self, fd: int, handle: asyncio.Handle, wait_ready: Callable[[int], Awaitable[None]]) -> None:
        try:
            await super()._io_task(fd, handle, wait_ready)
        except (SystemExit, KeyboardInterrupt) as error:
            self._contain(handle, error)

    def stop(self, waiter: trio.Event | None = None) -> trio.Event:
        """For trio-asyncio at close. RuntimeError before: other events need the loop."""
        if not self.closing:
            raise RuntimeError("the event loop belongs to the worker and cannot be stopped by a script")
        return cast(trio.Event, super().stop(waiter))

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Log and go on, as asyncio does; trio-asyncio's own would end the loop."""
        asyncio.BaseEventLoop.default_exception_handler(self, context)

    # Tasks and threads of the script

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        if type(coro) is Promise:
            coro = _await(coro)  # its own coroutine for each task: one promise may be given to several
        if isinstance(coro, Coroutine):
            meter = charged_in(options.get("context"))
            if meter is not None and not isinstance(coro, MeteredCoroutine):
                meter.shared = True
                coro = MeteredCoroutine(coro, meter)
        return cast("asyncio.Task[Any]", super().create_task(coro, **options))

    def set_default_executor(self, executor: Any) -> None:
        if not isinstance(executor, concurrent.futures.ThreadPoolExecutor):
            raise TypeError("executor must be ThreadPoolExecutor instance")
        self._executor = executor

    def run_in_executor(
        self, executor: concurrent.futures.Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Call `func(*args)` in a thread, charged to the current event; in a process, uncharged.

        As in asyncio, cancelling the future leaves the thread to itself.
        """
        self._check_closed()
        self._check_callback(func, "run_in_executor")
        call: Callable[[], T] = functools.partial(func, *args) if args else cast(Callable[[], T], func)
        if executor is None:
            executor = self._executor
        if executor is None or isinstance(executor, trio_asyncio.TrioExecutor):
            return cast("asyncio.Future[T]", self.trio_as_future(self._in_thread, measured(call)))
        return asyncio.wrap_future(executor.submit(call), loop=self)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=self._threads)


async def _await(promise: Promise[T]) -> T:
    return await promise
