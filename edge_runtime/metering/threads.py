"""CPU time of user code in other threads than the event loop's: of calls, as far as they have got.

Each call is shown on a page that others can read while it runs: native code may keep the interpreter, and with it the
event loop, to itself.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from time import clock_gettime, pthread_getcpuclockid, thread_time
from typing import Final, TypeVar

from edge_runtime.errors import CpuLimitExceeded
from edge_runtime.metering.measure import stop_of
from edge_runtime.metering.meter import BACKGROUND, NO_LIMIT_S, OVERHEAD, Meter

T = TypeVar("T")

THREAD: Final = 0
"""Place in a call's row on the page: the kernel's id of its thread; 0: the row is free."""
LABEL: Final = 1
"""As on the page of `metering.measure`."""
BASE: Final = 2
"""What the thread's CPU clock would have shown if all that the event has used had been used in the thread."""
LIMIT: Final = 3
"""How much the event may use."""
CHARGED: Final = 4
"""How much of it is in the ledger."""
ROW: Final = 5
_ROWS: Final = 64
"""Calls beyond that are not shown."""
PAGE_BYTES: Final = 8 * ROW * _ROWS

_page = memoryview(bytearray(PAGE_BYTES)).cast("d")
_free_rows: Final = list(range(0, ROW * _ROWS, ROW))
_NO_ROW: Final = -1
_attributed_s = 0.0
_for_no_event_s = 0.0
_ended = 0


def show_threads_on(page: memoryview[float]) -> None:
    """Show the calls that begin from now on there; its items are as those of `metering.measure`."""
    global _page
    _page = page


def attributed_in_threads_s() -> float:
    """What calls in threads have been charged so far, to any meter; up to date after `charge_threads`."""
    return _attributed_s


def used_for_no_event_s() -> float:
    """What of it was charged to BACKGROUND."""
    return _for_no_event_s


def living_count() -> int:
    """How many threads there are that have been measured from their beginning, and calls in others."""
    return len(_calls)


def ended_count() -> int:
    """How many threads have ended that were measured from their beginning."""
    return _ended


def youngest_event() -> Meter | None:
    """Of those that have calls in threads."""
    with _calls_lock:
        events = [call.meter for call in _calls.values() if call.meter.limit_s < NO_LIMIT_S]
    return max(events, key=lambda meter: meter.started_s, default=None)


class _Call:
    """A measured call in a thread. `since_s`: up to where the thread's CPU clock is charged, while it is innermost."""

    __slots__ = ("_owns_row", "meter", "outer", "row", "since_s")

    def __init__(self, meter: Meter, outer: _Call | None, since_s: float) -> None:
        self.meter = meter
        self.outer = outer
        self.since_s = since_s
        self.row: int = _NO_ROW if outer is None else outer.row
        self._owns_row = self.row == _NO_ROW and meter is not OVERHEAD and bool(_free_rows)
        if self._owns_row:
            self.row = _free_rows.pop()
            self.show()
            _page[self.row + THREAD] = threading.get_native_id()
        else:
            self.show()

    def charge(self, now_s: float) -> None:
        global _attributed_s, _for_no_event_s
        used_s = now_s - self.since_s
        self.since_s = now_s
        self.meter.cpu_s += used_s
        _attributed_s += used_s
        if self.meter is BACKGROUND:
            _for_no_event_s += used_s

    def show(self) -> None:
        """Bring the page up to date, after it was charged or has become the innermost one again."""
        row, meter = self.row, self.meter
        if row != _NO_ROW:
            _page[row + LABEL] = meter.label
            _page[row + BASE] = self.since_s - meter.cpu_s
            _page[row + LIMIT] = meter.limit_s
            _page[row + CHARGED] = meter.shown_s

    def end(self) -> None:
        if self._owns_row:
            _page[self.row + THREAD] = 0
            _free_rows.append(self.row)
        elif self.outer is not None:
            self.outer.show()


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
        now_s = thread_time()
        if outer is not None:
            outer.charge(now_s)
        call = _calls[ident] = _Call(meter, outer, now_s)
    try:
        return fn(*args)
    finally:
        _leave(ident, call)


def measure_thread(meter: Meter, fn: Callable[[], object]) -> None:
    """`measure_call` for all that a thread does: its beginning is charged too, and its end is counted."""
    global _ended
    meter.shared = True
    ident = threading.get_ident()
    call: _Call | None = None
    try:
        # In here: a stop may come as soon as the lock is released.
        with _calls_lock:
            call = _calls[ident] = _Call(meter, None, 0.0)
        fn()
    finally:
        if call is not None:
            _leave(ident, call)
        _ended += 1


def _leave(ident: int, call: _Call) -> None:
    while True:
        try:
            with _calls_lock:
                now_s = thread_time()
                call.charge(now_s)
                if call.outer is None:
                    _calls.pop(ident, None)
                else:
                    call.outer.since_s = now_s
                    _calls[ident] = call.outer
                call.end()
            # A stop that was meant for the call and comes late is raised by this loop, not in the caller.
            for _ in range(2):
                pass
            return
        except CpuLimitExceeded:
            continue


def _show_nowhere() -> None:
    show_threads_on(memoryview(bytearray(PAGE_BYTES)).cast("d"))


os.register_at_fork(after_in_child=_show_nowhere)


def show_charged_in_threads() -> None:
    """Bring the page up to date, after something was added to the ledger; for the event loop's thread."""
    if _calls and _calls_lock.acquire(blocking=False):
        try:
            for call in _calls.values():
                call.show()
        finally:
            _calls_lock.release()


def charge_threads(*, and_stop: bool = False) -> bool:
    """Charge what calls in threads have used so far; with `and_stop` raise CpuLimitExceeded in those over their limit.

    For the event loop's thread, and its signal handlers: does nothing, and returns False, if it was interrupted in
    here, or a call begins or ends just now.
    """
    if not _calls:
        return True
    if not _calls_lock.acquire(blocking=False):
        return False
    try:
        for ident, call in _calls.items():
            call.charge(clock_gettime(pthread_getcpuclockid(ident)))
            call.show()
        if not and_stop:
            return True
        # All threads of an event at once: stopped one after the other, they would seem to go on.
        over = [call.meter for call in _calls.values() if call.meter.cpu_s > call.meter.stop_s]
        for meter in over:
            if meter.cpu_s > meter.stop_s:
                stop_of(meter, meter.cpu_s)
        for ident, call in _calls.items():
            if call.meter in over:
                _set_async_exc(ctypes.c_ulong(ident), ctypes.py_object(CpuLimitExceeded))
        return True
    finally:
        _calls_lock.release()
