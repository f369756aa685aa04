"""Threads that are started with Python's own means: their CPU time is charged to the event that started them, and what
is given to a pool of threads to the event that gave it.

Threads of the runtime (trio's, the committer) are measured as its overhead, so that nothing of a process's CPU time is
left over. What a script starts outside of events is its background work.

There is a limit to how many there are at a time: beyond it Python's own error for a system that refuses is raised. It
is no matter to the runtime if a script has used up threads or memory: commits and their like must go on. An event that
has used up its CPU time starts none: it is stopped where it tries.
"""

from __future__ import annotations

import _thread
import functools
import resource
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, TypeVar, cast

from edge_runtime.limits import RUNTIME_THREADS_SPARE, SCRIPT_THREADS_MAX
from edge_runtime.metering.meter import BACKGROUND, OVERHEAD, Meter, user_meter
from edge_runtime.metering.thread_starts import run_stoppable, start_thread
from edge_runtime.metering.threads import check_may_begin, living_count, measure_call

T = TypeVar("T")

_start = threading.Thread.start
_start_new_thread = _thread.start_new_thread
_submit: Final[Callable[..., Future[Any]]] = ThreadPoolExecutor.submit
_RUNTIME: Final = ("edge_runtime.", "trio.")
_POOL: Final = "concurrent.futures.thread"
"""Its threads go on from one event's calls to another's: the calls are stopped, not the threads."""


@functools.wraps(_start)
def _start_measured(self: threading.Thread) -> None:
    module = _module(self)
    if module.startswith(_RUNTIME) or module == _POOL:
        if module == _POOL:
            check_may_begin(_script_meter())
        _start(self)
        return
    check_may_begin(_script_meter())
    thread: Any = self
    run = thread.run

    def run_measured() -> None:
        del thread.run  # it holds the thread
        run_stoppable(run)

    thread.run = run_measured
    _start(thread)


def _module(thread: Any) -> str:
    """Whose a thread is."""
    return getattr(getattr(thread, "_target", None), "__module__", None) or ""


def _bootstrap_measured(bootstrap: Callable[..., object], args: tuple[()]) -> int:
    """What threading.Thread starts its threads with."""
    runtimes = _module(getattr(bootstrap, "__self__", None)).startswith(_RUNTIME)
    _refuse_beyond(SCRIPT_THREADS_MAX + (RUNTIME_THREADS_SPARE if runtimes else 0))
    meter = OVERHEAD if runtimes else _script_meter()
    run = functools.partial(_run_charged, meter, functools.partial(bootstrap, *args))
    return start_thread(_start_with_spare_memory if runtimes else _start_charged, meter, run)


def _start_charged(run: Callable[[], object]) -> int:
    return _start_new_thread(run, ())


def _start_with_spare_memory(run: Callable[[], object]) -> int:
    try:
        return _start_charged(run)
    except RuntimeError:
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))
        try:
            return _start_charged(run)
        finally:
            resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _start_new_measured(function: Callable[..., object], args: tuple[Any, ...], kwargs: Any = None, /) -> int:
    meter = _script_meter()
    check_may_begin(meter)
    _refuse_beyond(SCRIPT_THREADS_MAX)
    call = functools.partial(_run_told, function, functools.partial(function, *args, **(kwargs or {})))
    return start_thread(_start_charged, meter, functools.partial(_run_charged, meter, call))


def _run_told(function: Callable[..., object], call: Callable[[], object]) -> None:
    """What it raises is told as Python does it, but where it is measured."""
    try:
        run_stoppable(call)
    except SystemExit:
        pass
    except BaseException as error:
        told = (type(error), error, error.__traceback__, "Exception ignored in thread started by", function)
        sys.unraisablehook(cast(Any, sys).UnraisableHookArgs(told))


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
    run()


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
    check_may_begin(meter)
    meter.shared = True
    return _submit(self, _call_charged, meter, functools.partial(fn, *args, **kwargs))


def _script_meter() -> Meter:
    return user_meter.get() or BACKGROUND


def meter_threads() -> None:
    """Call before a script is imported, which may keep the functions under names of its own."""
    threading.Thread.start = _start_measured  # type: ignore[method-assign]
    threading._start_new_thread = _bootstrap_measured  # type: ignore[attr-defined]
    _thread.start_new_thread = _thread.start_new = cast(Any, _start_new_measured)
    ThreadPoolExecutor.submit = _submit_measured  # type: ignore[method-assign, assignment]
