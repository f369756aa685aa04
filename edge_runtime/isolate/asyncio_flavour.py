"""Scripts of asyncio's flavour, Cloudflare's: one loop for each isolate, entered from the task that delivers the event.

The first step of an event's coroutine is taken right there (`first_step`). Many handlers only await what our bindings
settle at once, so they are done after that step and never reach the loop; the others become real tasks, resumed by it.

Import this module before the script: trio-asyncio replaces `asyncio.current_task` and its like when it is imported, and
a script that has taken them by name goes on using the originals.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar, cast

import sniffio
import trio
import trio_asyncio
from trio_asyncio import _loop as _loop_module
from trio_asyncio._loop import current_loop

from edge_runtime.event import current_event
from edge_runtime.isolate.first_step import FirstStep
from edge_runtime.isolate.loop_callbacks import Crossing
from edge_runtime.isolate.script_loop import ScriptLoop
from edge_runtime.limits import ASYNCIO_CLOSE_S, ASYNCIO_THREADS_MAX
from edge_runtime.metering.measure import MeteredCoroutine
from edge_runtime.metering.meter import Meter
from edge_runtime.promise import OwnedPromise, Promise, PromiseCancelled

T = TypeVar("T")

_log = logging.getLogger("edge.asyncio")
_PRIVATE: Final = (
    "_check_closed",
    "_closed",
    "_handle_sig",
    "_io_task",
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


def _give_threads_native_loops() -> None:
    """Let `asyncio.run` in a script's threads, and at import time, make asyncio's own loops.

    trio-asyncio would make loops that are a trio run of their own, on greenlets; from there a thread cannot wait for
    the isolate's loop (Django's async views under WSGI do), and the template would start trio before it forks.
    """
    if not hasattr(_loop_module._FakedPolicy, "policy") or not hasattr(_loop_module, "_original_policy"):
        raise RuntimeError(f"trio-asyncio {trio_asyncio.__version__} is not as expected; allowed: trio-asyncio 0.16")
    _loop_module._FakedPolicy.policy = _loop_module._original_policy


_give_threads_native_loops()


class AsyncioFlavour:
    """`seams.Flavour` for scripts that use asyncio."""

    name = "asyncio"

    def __init__(self, loop: ScriptLoop) -> None:
        self._loop = loop

    async def run(self, coro: Awaitable[T]) -> T:
        """Drive `coro` as an asyncio task in the caller's context, or without one as long as it needs none.

        Cancellation becomes the task's `CancelledError`, once; a script that swallows it is waited for. What the
        script leaves running goes on after this returns, until the flavour is closed.
        """
        loop = self._loop
        trio_task = trio.lowlevel.current_task()
        context = trio_task.context
        if current_loop.get() is not loop:
            current_loop.set(loop)
        work = MeteredCoroutine(coro, None)
        first: FirstStep[T]
        if context.get(current_event) is current_event.get():
            first = FirstStep(work, loop, context)
            task = first.take()
        else:
            # The trio task runs several messages, each in a context of its own (`actors.carriers`).
            own = contextvars.copy_context()
            first = FirstStep(work, loop, own)
            task = own.run(first.take)
        if task is None:
            return cast(T, first.value)
        try:
            if not task.done():
                crossing = Crossing(trio_task, task)
                task.add_done_callback(crossing)
                await trio.lowlevel.wait_task_rescheduled(crossing.abort)
                if crossing.raise_cancel is not None and task.cancelled():
                    crossing.raise_cancel()
                del crossing  # as the task below
            return task.result()
        finally:
            del task  # it holds the error, whose traceback holds this frame

    def begin(self, coro: Coroutine[Any, Any, T], meter: Meter) -> Promise[T] | None:
        if sniffio.thread_local.name != "asyncio":
            return None
        context = contextvars.copy_context()
        first = FirstStep(MeteredCoroutine(coro, meter), self._loop, context)
        try:
            task = context.run(first.take)
        except BaseException as error:
            return Promise.rejected(error)
        if task is None:
            return Promise.resolved(first.value)
        promise: Promise[T] = OwnedPromise(task)
        task.add_done_callback(functools.partial(_settle, promise))
        return promise


def _settle(promise: Promise[T], task: asyncio.Task[T]) -> None:
    if task.cancelled():
        promise.reject(PromiseCancelled("the event that this work belonged to has ended"))
    elif (error := task.exception()) is not None:
        promise.reject(error)
    else:
        promise.resolve(task.result())


@asynccontextmanager
async def open_asyncio_flavour() -> AsyncIterator[AsyncioFlavour]:
    """Open the isolate's asyncio loop.

    On exit the tasks that are left are cancelled and given `ASYNCIO_CLOSE_S`; what does not end by then is dropped and
    named in the log.
    """
    try:
        async with trio_asyncio.open_loop() as opened:
            loop = _adopt(opened)
            # For code that got hold of the original `get_running_loop` before trio-asyncio replaced it: C modules, and
            # whatever was imported earlier. Which library a task belongs to is told by sniffio, not by this.
            asyncio._set_running_loop(loop)
            try:
                yield AsyncioFlavour(loop)
            finally:
                loop.closing = True
                with trio.CancelScope(shield=True):
                    await _end_tasks(loop)
                loop.ended.set_result(None)
    finally:
        asyncio._set_running_loop(None)


def _adopt(loop: trio_asyncio.TrioEventLoop) -> ScriptLoop:
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
    adopted._making_task = False
    adopted._begin_task = None
    adopted.first_step = None
    adopted._cancelled_timers = 0
    adopted._threads = trio.CapacityLimiter(ASYNCIO_THREADS_MAX)
    adopted._executor = None
    adopted.closing = False
    adopted.ended = asyncio.Future(loop=adopted)
    # The main loop waits inside the former class's method; this ends that wait.
    adopted._q_send.send_nowait(asyncio.Handle(_nothing, (), loop))
    return adopted


async def _end_tasks(loop: ScriptLoop) -> None:
    """Cancel what runs, so that trio-asyncio finds nothing: it would wait for ever, and raise a task's error."""
    tasks: set[asyncio.Task[Any]] = asyncio.all_tasks(loop)
    if not tasks:
        return
    for task in tasks:
        task.cancel()
    ended = trio.Event()

    def one_ended(_: object) -> None:
        if all(task.done() for task in tasks):
            ended.set()

    for task in tasks:
        task.add_done_callback(one_ended)
    with trio.move_on_after(ASYNCIO_CLOSE_S):
        await ended.wait()
    for task in tasks:
        if not task.done():
            _log.error("%r did not end within %g s of being cancelled and was dropped", task, ASYNCIO_CLOSE_S)
            asyncio._unregister_task(task)
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # it has just been logged
        elif not task.cancelled() and (error := task.exception()) is not None:
            loop.call_exception_handler({"message": "error while a task was cancelled", "exception": error})


def _nothing() -> None:
    pass
