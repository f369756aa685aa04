"""Blocking callbacks of steps: in a thread that can be interrupted, so that a timeout ends them too."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any, Final

import trio

from edge_runtime.event import EventContext
from edge_runtime.limits import THREAD_INTERRUPT_MS
from edge_runtime.promise import Promise
from edge_runtime.seams import Offload

_set_async_exc: Final = ctypes.pythonapi.PyThreadState_SetAsyncExc


class StepInterruption(BaseException):
    """Raised inside of a blocking callback whose time is over; no business of the script."""


class _Thread:
    """Where a call runs. The lock makes sure that nothing is raised in a thread that has gone on to other work."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ident: int | None = None
        self.interrupted = False

    def call(self, fn: Callable[..., Any], args: tuple[object, ...]) -> Any:
        with self._lock:
            if self.interrupted:
                raise StepInterruption
            self._ident = threading.get_ident()
        try:
            return fn(*args)
        finally:
            self._leave()

    def _leave(self) -> None:
        while True:
            try:
                with self._lock:
                    self._ident = None
                return
            except StepInterruption:
                # It came between the end of the call and here.
                continue

    def interrupt(self) -> None:
        with self._lock:
            self.interrupted = True
            if self._ident is not None:
                _set_async_exc(ctypes.c_ulong(self._ident), ctypes.py_object(StepInterruption))


async def run_interruptible(offload: Offload, event: EventContext, fn: Callable[..., Any], *args: object) -> Any:
    """`offload(fn, *args)`. When cancelled, StepInterruption is raised in the thread; a call that takes no notice for
    THREAD_INTERRUPT_MS, as one that waits in native code, is left behind, and what becomes of it has no effect."""
    thread = _Thread()
    ended: Promise[Any] = Promise()

    async def run() -> None:
        try:
            result = await offload(thread.call, fn, args)
        except trio.Cancelled:
            if not ended.settled:
                ended.reject(StepInterruption())
            raise
        except BaseException as error:
            ended.reject(error)
        else:
            ended.resolve(result)

    event.start(run)
    try:
        return await ended
    except trio.Cancelled:
        thread.interrupt()
        with trio.move_on_after(THREAD_INTERRUPT_MS / 1000, shield=True):
            await _settled(ended)
        raise


async def _settled(promise: Promise[Any]) -> None:
    task = trio.lowlevel.current_task()
    waiting = True

    def wake(_: Promise[Any]) -> None:
        if waiting:
            trio.lowlevel.reschedule(task)

    def abort(_: object) -> trio.lowlevel.Abort:
        nonlocal waiting
        waiting = False
        return trio.lowlevel.Abort.SUCCEEDED

    if not promise.settled:
        promise.add_done_callback(wake)
        await trio.lowlevel.wait_task_rescheduled(abort)
