"""The asyncio event loop of an isolate, on top of trio.

It is trio-asyncio's loop, with what a server of foreign scripts needs beyond it: a task's first step can be taken at
once (`start`), callbacks run in batches as asyncio does it, a script's `sys.exit()` or failed background task does not
end the loop, foreign executors work, and tasks and callbacks are charged to the event that they belong to.

All that touches private parts of trio-asyncio is in this module; `adopt` checks that they exist.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import functools
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from types import MethodType
from typing import Any, Final, TypeVar, cast

import sniffio
import trio
import trio_asyncio
from trio_asyncio._base import TrioAsyncioExit
from trio_asyncio._handles import AsyncHandle

from edge_runtime.limits import ASYNCIO_THREADS_MAX
from edge_runtime.metering.meter import MeteredCoroutine, measure_call, measure_inline, user_meter
from edge_runtime.promise import Promise

T = TypeVar("T")

_PRIVATE: Final = (
    "_check_closed",
    "_closed",
    "_handle_sig",
    "_main_loop",
    "_main_loop_one",
    "_nursery",
    "_q_send",
    "_queue_handle",
    "_signal_handlers",
    "_task",
    "_timer_handle_cancelled",
    "_timers",
    "_token",
)
_CANCELLED_TIMERS_MIN: Final = 100
"""Cancelled timers are swept out of the heap once there are so many and they are more than half of it, as asyncio
does: a script that opens `asyncio.timeout(3600)` for every request would fill the memory otherwise."""


class Crossing:
    """A done callback that resumes a trio task; the loop calls it at once instead of queueing it."""

    __slots__ = ("_asyncio_task", "_trio_task", "raise_cancel")

    def __init__(self, trio_task: trio.lowlevel.Task, asyncio_task: asyncio.Task[Any]) -> None:
        self._trio_task = trio_task
        self._asyncio_task = asyncio_task
        self.raise_cancel: Callable[[], Any] | None = None
        """Set when trio has cancelled the waiting task: raises its `trio.Cancelled`."""

    def __call__(self, _: object) -> None:
        trio.lowlevel.reschedule(self._trio_task)

    def abort(self, raise_cancel: Callable[[], Any]) -> trio.lowlevel.Abort:
        """Pass trio's cancellation on to the asyncio task, and go on waiting for what it makes of it."""
        self.raise_cancel = raise_cancel
        self._asyncio_task.cancel()
        return trio.lowlevel.Abort.FAILED


class ScriptLoop(trio_asyncio.TrioEventLoop):  # type: ignore[misc]
    """An asyncio loop that runs scripts. Made from an open trio-asyncio loop by `adopt`."""

    _runnable: deque[asyncio.Handle]
    _parked: trio.lowlevel.Task | None
    _first_steps: list[Callable[[], object]] | None
    _cancelled_timers: int
    _threads: trio.CapacityLimiter
    _executor: concurrent.futures.Executor | None

    def start(self, coro: Coroutine[Any, Any, T], context: contextvars.Context) -> asyncio.Task[T]:
        """Make a task and take its first step now; `context` must be the current one.

        The task may be done on return. A `SystemExit` that the script raises is in the task and not raised here.
        """
        steps: list[Callable[[], object]] = []
        self._first_steps = steps
        try:
            task = asyncio.Task(coro, loop=self, context=context)
        finally:
            self._first_steps = None
        local = sniffio.thread_local
        outer, local.name = local.name, "asyncio"
        try:
            for step in steps:
                step()
        except (SystemExit, KeyboardInterrupt):
            if not task.done():
                raise
        finally:
            local.name = outer
        return task

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
        if kind is _TASK_STEP:
            if self._first_steps is not None:
                self._first_steps.append(callback)
                return cast(asyncio.Handle, None)
        elif kind is not _TASK_WAKEUP:
            callback = _metered(callback, context)
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
        handle = asyncio.Handle(_metered(callback, context), args, self, context)
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
        handle = asyncio.TimerHandle(when, _metered(callback, context), args, self, context)
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
            trio.lowlevel.reschedule(task)

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
                finally:
                    local.name = outer
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
            self.call_exception_handler({"message": message, "exception": error, "handle": handle})

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Log and go on, as asyncio does; trio-asyncio's own would end the loop."""
        asyncio.BaseEventLoop.default_exception_handler(self, context)

    # Tasks and threads of the script

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        if type(coro) is Promise:
            coro = _await(coro)  # its own coroutine for each task: one promise may be given to several
        if isinstance(coro, Coroutine):
            context = options.get("context")
            meter = user_meter.get() if context is None else context.get(user_meter)
            if meter is not None and not isinstance(coro, MeteredCoroutine):
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
            return cast("asyncio.Future[T]", self.trio_as_future(self._in_thread, _measured(call)))
        if isinstance(executor, concurrent.futures.ThreadPoolExecutor):
            call = _measured(call)
        return asyncio.wrap_future(executor.submit(call), loop=self)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=self._threads)


def adopt(loop: trio_asyncio.TrioEventLoop) -> ScriptLoop:
    """Turn a running trio-asyncio loop into a `ScriptLoop`; RuntimeError if trio-asyncio is not as expected.

    `trio_asyncio.open_loop` chooses the class itself, and its start and shutdown are worth keeping, so the class is
    changed afterwards; both have the same layout.
    """
    missing = [name for name in _PRIVATE if not hasattr(loop, name)]
    if missing or type(loop) is not trio_asyncio.TrioEventLoop:
        raise RuntimeError(
            f"trio-asyncio {trio_asyncio.__version__} lacks {', '.join(missing) or 'TrioEventLoop'}, which scripts of "
            "asyncio's flavour are run with; allowed: trio-asyncio 0.16"
        )
    loop.__class__ = ScriptLoop
    adopted = cast(ScriptLoop, loop)
    adopted._runnable = deque()
    adopted._parked = None
    adopted._first_steps = None
    adopted._cancelled_timers = 0
    adopted._threads = trio.CapacityLimiter(ASYNCIO_THREADS_MAX)
    adopted._executor = None
    # The main loop waits inside the former class's method; this ends that wait.
    adopted._q_send.send_nowait(asyncio.Handle(_nothing, (), loop))
    return adopted


async def _await(promise: Promise[T]) -> T:
    return await promise


def _nothing() -> None:
    pass


class _Probe:
    """As much of an event loop as a task needs to show what it hands to `call_soon`."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> None:
        self.seen.append(callback)

    def get_debug(self) -> bool:
        return False


def _callback_types() -> tuple[type, type]:
    """The types of a task's step and of its wake-up as it hands them to `call_soon`."""
    probe = _Probe()
    loop: Any = probe
    future: asyncio.Future[None] = asyncio.Future(loop=loop)

    async def wait() -> None:
        await future

    task = asyncio.Task(wait(), loop=loop)
    probe.seen[0]()
    future.set_result(None)
    probe.seen[1](future)
    assert task.done()
    types = type(probe.seen[0]), type(probe.seen[1])
    if MethodType in types:
        raise RuntimeError("asyncio's tasks must be those of its C module; this interpreter has only the Python ones")
    return types


_TASK_STEP, _TASK_WAKEUP = _callback_types()


def _metered(callback: Callable[..., object], context: contextvars.Context | None) -> Callable[..., object]:
    meter = user_meter.get() if context is None else context.get(user_meter)
    return callback if meter is None else functools.partial(measure_inline, meter, callback)


def _measured(call: Callable[[], T]) -> Callable[[], T]:
    meter = user_meter.get()
    return call if meter is None else functools.partial(measure_call, meter, call)
