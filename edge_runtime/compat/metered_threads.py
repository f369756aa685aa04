"""Threads that are started with Python's own means: their CPU time is charged to the event that started them, and what
is given to a pool of threads to the event that gave it.

Threads of the runtime (trio's, the committer) are measured as its overhead, so that nothing of a process's CPU time is
left over. What a script starts outside of events is its background work.

There is a limit to how many there are at a time: beyond it Python's own error for a system that refuses is raised. It
is no matter to the runtime if a script has used up threads or memory: commits and their like must go on.
"""

from __future__ import annotations

import _thread
import functools
import resource
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, TypeVar, cast

from edge_runtime.limits import RUNTIME_THREADS_SPARE, SCRIPT_THREADS_MAX
from edge_runtime.metering.meter import BACKGROUND, OVERHEAD, Meter, user_meter
from edge_runtime.metering.threads import living_count, measure_call, measure_thread

T = TypeVar("T")

_start = threading.Thread.start
_start_new_thread = _thread.start_new_thread
_submit: Final[Callable[..., Future[Any]]] = ThreadPoolExecutor.submit
_RUNTIME: Final = ("edge_runtime.", "trio.")


@functools.wraps(_start)
def _start_measured(self: threading.Thread) -> None:
    thread: Any = self
    target = getattr(thread, "_target", None)
    runtimes = (getattr(target, "__module__", None) or "").startswith(_RUNTIME)
    _refuse_beyond(SCRIPT_THREADS_MAX + (RUNTIME_THREADS_SPARE if runtimes else 0))
    meter = OVERHEAD if runtimes else _script_meter()
    run = thread.run

    def run_measured() -> None:
        del thread.run  # it holds the thread
        _run_charged(meter, run)

    thread.run = run_measured
    try:
        _start(thread)
    except RuntimeError:
        if not runtimes:
            raise
        _start_with_spare_memory(thread)


def _start_with_spare_memory(thread: threading.Thread) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))
    try:
        _start(thread)
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _start_new_measured(function: Callable[..., object], args: tuple[Any, ...], kwargs: Any = None, /) -> int:
    _refuse_beyond(SCRIPT_THREADS_MAX)
    call = functools.partial(function, *args, **(kwargs or {}))
    return _start_new_thread(_run_charged, (_script_meter(), call))


def _refuse_beyond(most: int) -> None:
    living = living_count()
    if living >= most:
        raise RuntimeError(
            f"can't start new thread: {living} threads run in this isolate, and a worker may have {SCRIPT_THREADS_MAX}"
        )


def _run_charged(meter: Meter, run: Callable[[], object]) -> None:
    """All that a thread does, whose context is empty. What it starts is for the event too."""
    if meter is not OVERHEAD and meter is not BACKGROUND:
        user_meter.set(meter)
    measure_thread(meter, run)


def _call_charged(meter: Meter, call: Callable[[], T]) -> T:
    """In a thread of a pool, whose context is that of its other calls."""
    outer = user_meter.set(meter)
    try:
        return measure_call(meter, call)
    finally:
        user_meter.reset(outer)


@functools.wraps(_submit)
def _submit_measured(self: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
    meter = user_meter.get()
    if meter is None:
        return _submit(self, fn, *args, **kwargs)
    meter.shared = True
    return _submit(self, _call_charged, meter, functools.partial(fn, *args, **kwargs))


def _script_meter() -> Meter:
    meter = user_meter.get() or BACKGROUND
    meter.shared = True  # already now: the event may end before the thread begins
    return meter


def meter_threads() -> None:
    """Call before a script is imported, which may keep the functions under names of its own."""
    threading.Thread.start = _start_measured  # type: ignore[method-assign]
    _thread.start_new_thread = cast(Any, _start_new_measured)
    ThreadPoolExecutor.submit = _submit_measured  # type: ignore[method-assign, assignment]
