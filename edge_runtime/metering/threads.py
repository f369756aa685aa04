"""CPU time of user code in other threads than the event loop's: of calls, as far as they have got."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from time import clock_gettime_ns, pthread_getcpuclockid, thread_time_ns
from typing import Final, TypeVar

from edge_runtime.errors import CpuLimitExceeded
from edge_runtime.metering.measure import stop_of
from edge_runtime.metering.meter import Meter

T = TypeVar("T")

_attributed_ns = 0


def attributed_in_threads_ns() -> int:
    """What calls in threads have been charged so far, to any meter; up to date after `charge_threads`."""
    return _attributed_ns


class _Call:
    """A measured call in a thread. `since_ns`: up to where the thread's CPU clock is charged, while it is innermost."""

    __slots__ = ("meter", "outer", "since_ns")

    def __init__(self, meter: Meter, outer: _Call | None, since_ns: int) -> None:
        self.meter = meter
        self.outer = outer
        self.since_ns = since_ns

    def charge(self, now_ns: int) -> None:
        global _attributed_ns
        used = now_ns - self.since_ns
        self.since_ns = now_ns
        self.meter.cpu_ns += used
        _attributed_ns += used


_calls: Final[dict[int, _Call]] = {}
"""The innermost call of each thread that has one, by its ident. Changed and charged under the lock."""
_calls_lock: Final = threading.Lock()
_set_async_exc: Final = ctypes.pythonapi.PyThreadState_SetAsyncExc


def measure_call(meter: Meter, fn: Callable[..., T], *args: object) -> T:
    """Call `fn(*args)` in a worker thread and charge the thread's CPU time of it, as far as it has got, whenever
    `charge_threads` is called, and at its end. Over the limit, CpuLimitExceeded is raised inside of it."""
    meter.shared = True
    ident = threading.get_ident()
    with _calls_lock:
        outer = _calls.get(ident)
        now_ns = thread_time_ns()
        if outer is not None:
            outer.charge(now_ns)
        call = _calls[ident] = _Call(meter, outer, now_ns)
    try:
        return fn(*args)
    finally:
        _leave(ident, call)


def _leave(ident: int, call: _Call) -> None:
    while True:
        try:
            with _calls_lock:
                now_ns = thread_time_ns()
                call.charge(now_ns)
                if call.outer is None:
                    _calls.pop(ident, None)
                else:
                    call.outer.since_ns = now_ns
                    _calls[ident] = call.outer
            # A stop that was meant for the call and comes late is raised by this loop, not in the caller.
            for _ in range(2):
                pass
            return
        except CpuLimitExceeded:
            continue


def charge_threads(*, and_stop: bool = False) -> None:
    """Charge what calls in threads have used so far; with `and_stop` raise CpuLimitExceeded in those over their limit.

    For the event loop's thread, and its signal handlers: does nothing if it was interrupted in here.
    """
    if not _calls or not _calls_lock.acquire(blocking=False):
        return
    try:
        for ident, call in _calls.items():
            call.charge(clock_gettime_ns(pthread_getcpuclockid(ident)))
        if not and_stop:
            return
        for ident, call in _calls.items():
            meter = call.meter
            if meter.cpu_ns > meter.stop_ns:
                stop_of(meter, meter.cpu_ns)
                _set_async_exc(ctypes.c_ulong(ident), ctypes.py_object(CpuLimitExceeded))
    finally:
        _calls_lock.release()
