"""CPU time of user code in other threads than the event loop's: of calls, as far as they have got. A thread that
`thread_starts` starts is one call from its beginning to its end.

The event loop charges them and stops those over their limit (`charge_threads`), about every CPU_TICK_MS that the
process uses. It may be kept from that, as threads that begin and end all the time leave it neither the interpreter nor
the lock for long. So each of them that ends is charged at once, one that begins for an event over its limit does
nothing, and who finds that it was not done for too long does it in the loop's place.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections import Counter
from collections.abc import Callable
from heapq import heappop, heappush
from time import clock_gettime, process_time, pthread_getcpuclockid, thread_time
from typing import Final, TypeVar

from edge_runtime.errors import CpuLimitExceeded
from edge_runtime.limits import CPU_TICK_MS
from edge_runtime.metering.loop_thread import stop_of
from edge_runtime.metering.meter import BACKGROUND, NO_LIMIT_S, OVERHEAD, Meter
from edge_runtime.metering.thread_rows import (
    CHARGED,
    EVENT,
    HEAD,
    LABEL,
    LIMIT,
    NO_EVENT_S,
    PAGE_BYTES,
    ROW,
    ROWS,
    SHOWN,
    SINCE,
    THREAD,
    USED,
)

T = TypeVar("T")

_TICK_S: Final = CPU_TICK_MS / 1000
_NO_ROW: Final = -1
_BEGINS_S: Final = 200e-6
"""What a thread uses at most before who has started it can tell it from others."""


_page = memoryview(bytearray(PAGE_BYTES)).cast("d")
_free_rows: Final = list(range(ROWS))
"""A heap, so that few rows have to be read where few are used."""
_attributed_s = 0.0
_for_no_event_s = 0.0
_unlooked_s = 0.0
"""What was charged at the ends of calls since all were charged."""
_missed = False
"""All were to be charged, and somebody had the lock."""
_ends: Counter[Meter] = Counter()
"""Threads that have ended, by who pays for that."""
_before_first: Final[list[Callable[[], None]]] = []
_charged_after: Final[list[Callable[[float], None]]] = []


def show_threads_on(page: memoryview[float]) -> None:
    """Show the calls that begin from now on there; its items are as those of `metering.loop_thread`."""
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
    return len(calls) + len(starting)


def unseen_starts_s() -> float:
    """What threads that have just begun may have used, and will be charged."""
    return len(starting) * _BEGINS_S


def charge_after_threads(charge: Callable[[float], None]) -> None:
    """Have `charge(process_s)` called whenever all calls in threads were charged, while none begins or ends, in any
    thread; `process_s` is what the process's CPU clock showed right before."""
    _charged_after.append(charge)


def before_first_call(fn: Callable[[], None]) -> None:
    """Have `fn()` called once, before a script's code runs in any thread but the event loop's."""
    _before_first.append(fn)


def take_ends() -> Counter[Meter]:
    """How many threads have ended for each since this was last asked, that were measured from their beginning. This and
    the following are for what `charge_after_threads` was given."""
    global _ends
    taken, _ends = _ends, Counter()
    return taken


def youngest_event() -> Meter | None:
    """Of those that have calls in threads."""
    events = [call.meter for call in calls.values() if call.meter.limit_s < NO_LIMIT_S]
    return max(events, key=lambda meter: meter.started_s, default=None)


def charge_in_thread(meter: Meter, used_s: float) -> None:
    """Charge what no call was charged."""
    _charge(meter, used_s)


def _charge(meter: Meter, used_s: float) -> None:
    global _attributed_s, _for_no_event_s
    meter.cpu_s += used_s
    _attributed_s += used_s
    if meter is BACKGROUND:
        _for_no_event_s += used_s
        _page[NO_EVENT_S] = _for_no_event_s


class Call:
    """A measured call in a thread. `since_s`: up to where the thread's CPU clock is charged, while it is innermost."""

    __slots__ = ("clock", "ended", "from_beginning", "may_be_stopped", "meter", "outer", "owns_row", "row", "since_s")

    def __init__(self, meter: Meter, *, from_beginning: bool = False) -> None:
        self.meter = meter
        self.from_beginning = from_beginning
        """It is all that its thread does."""
        self.clock = 0
        """Of its thread, as time.clock_gettime() has it; 0 until it is entered."""
        self.outer: Call | None = None
        self.since_s = 0.0
        self.row = _NO_ROW
        self.owns_row = False
        self.may_be_stopped = False
        self.ended = False

    def enter(self, ident: int, outer: Call | None, since_s: float) -> None:
        """It is the innermost of that thread, which lives, from now on; under the lock."""
        if self.meter is not OVERHEAD:
            while _before_first:
                _before_first.pop()()
        self.clock = pthread_getcpuclockid(ident) if outer is None else outer.clock
        self.outer = outer
        self.since_s = since_s
        self.row = _NO_ROW if outer is None else outer.row
        calls[ident] = self
        self.owns_row = self.row == _NO_ROW and self.meter is not OVERHEAD and bool(_free_rows)
        if self.owns_row:
            number = heappop(_free_rows)
            self.row = HEAD + ROW * number
            self.show()
            # The clock's id is made of the thread's, inverted: pthread_getcpuclockid(3) of Linux.
            _page[self.row + THREAD] = ~(self.clock >> 3)
            if number >= _page[SHOWN]:
                _page[SHOWN] = number + 1
        else:
            self.show()

    def charge(self, now_s: float) -> float:
        used_s = now_s - self.since_s
        self.since_s = now_s
        _charge(self.meter, used_s)
        return used_s

    def show(self) -> None:
        """Bring the page up to date, after it was charged or has become the innermost one again."""
        row, meter = self.row, self.meter
        if row != _NO_ROW:
            _page[row + EVENT] = id(meter)
            _page[row + LABEL] = meter.label
            _page[row + LIMIT] = meter.limit_s
            _page[row + CHARGED] = meter.shown_s
            _page[row + SINCE] = self.since_s
            _page[row + USED] = meter.cpu_s

    def leave(self, ident: int) -> None:
        """It is over; under the lock."""
        self.ended = True
        if self.outer is None:
            calls.pop(ident, None)
        else:
            self.outer.since_s = self.since_s
            calls[ident] = self.outer
        if self.owns_row:
            self.owns_row = False
            _page[self.row + THREAD] = 0
            heappush(_free_rows, (self.row - HEAD) // ROW)
            if not calls:
                _page[SHOWN] = 0
        elif self.outer is not None:
            self.outer.show()


calls: Final[dict[int, Call]] = {}
"""The innermost call of each thread that has one, by its ident. Changed and charged under the lock."""
calls_lock: Final = threading.Lock()
starting: Final[set[Call]] = set()
"""Those of threads that are being started."""
_set_async_exc: Final = ctypes.pythonapi.PyThreadState_SetAsyncExc


def check_may_begin(meter: Meter) -> None:
    """Raise CpuLimitExceeded if its event has used up its time: it may make no more calls in threads."""
    global _unlooked_s
    if meter.cpu_s <= meter.limit_s:
        return
    # Who goes on trying is to be seen to go on.
    with calls_lock:
        call = calls.get(threading.get_ident())
        if call is not None:
            _unlooked_s += call.charge(thread_time())
            call.show()
            look_if_due()
    raise stop_of(meter, meter.cpu_s)


def measure_call(meter: Meter, fn: Callable[..., T], *args: object) -> T:
    """Call `fn(*args)` in a worker thread and charge the thread's CPU time of it, as far as it has got, whenever
    `charge_threads` is called, and at its end. Over the limit, CpuLimitExceeded is raised inside of it."""
    check_may_begin(meter)
    meter.shared = True
    ident = threading.get_ident()
    call = Call(meter)
    with calls_lock:
        outer = calls.get(ident)
        now_s = thread_time()
        if outer is not None:
            outer.charge(now_s)
        call.enter(ident, outer, now_s)
        look_if_due()
    try:
        call.may_be_stopped = True
        return fn(*args)
    finally:
        end_call(ident, call)


def end_call(ident: int, call: Call) -> None:
    global _unlooked_s
    while not call.ended:
        try:
            call.may_be_stopped = False
            with calls_lock:
                # Nobody stops it from now on. A stop that comes late is raised here, before anything is changed.
                for _ in range(2):
                    pass
                _unlooked_s += call.charge(thread_time())
                call.leave(ident)
                if call.from_beginning:
                    _ends[call.meter] += 1
                look_if_due()
        except CpuLimitExceeded:
            continue


def _be_a_copy() -> None:
    """In a forked process: of the threads none but the caller is there, and the page is the parent's."""
    calls_lock._at_fork_reinit()  # type: ignore[attr-defined]
    starting.clear()
    own = threading.get_ident()
    for ident in [ident for ident in calls if ident != own]:
        del calls[ident]
    if call := calls.get(own):
        call.clock = pthread_getcpuclockid(own)
    show_threads_on(memoryview(bytearray(PAGE_BYTES)).cast("d"))


os.register_at_fork(after_in_child=_be_a_copy)


def show_charged_in_threads() -> None:
    """Bring the page up to date, after something was added to the ledger; for the event loop's thread."""
    # Others may have the lock for long; so a call may end meanwhile, and its row be another's.
    for call in list(calls.values()):
        shown_s = call.meter.shown_s
        if not call.ended and call.row != _NO_ROW:
            _page[call.row + CHARGED] = shown_s


def charge_threads(*, and_stop: bool = False) -> None:
    """Charge what calls in threads have used so far; with `and_stop` raise CpuLimitExceeded in those over their limit.

    For the event loop's thread, and its signal handlers: does nothing if it was interrupted in here, or a call begins
    or ends just now, which then does it.
    """
    global _missed
    if not calls_lock.acquire(blocking=False):
        _missed = _missed or and_stop
        return
    try:
        _charge_all(and_stop=and_stop)
    finally:
        calls_lock.release()


def look_if_due() -> None:
    """Under the lock."""
    if _missed or _unlooked_s >= _TICK_S:
        _charge_all(and_stop=True)


def _charge_all(*, and_stop: bool) -> None:
    """Under the lock."""
    global _missed, _unlooked_s
    _missed, _unlooked_s = False, 0.0
    process_s = process_time()
    for call in calls.values():
        try:
            call.charge(clock_gettime(call.clock))
        except OSError:
            continue  # it is not there any more
        call.show()
    for charge in _charged_after:
        charge(process_s)
    if not and_stop:
        return
    # All threads of an event at once: stopped one after the other, they would seem to go on.
    over = {call.meter for call in calls.values() if call.meter.cpu_s > call.meter.stop_s}
    for meter in over:
        stop_of(meter, meter.cpu_s)
    for ident, call in calls.items():
        if call.meter in over and call.may_be_stopped:
            _set_async_exc(ctypes.c_ulong(ident), ctypes.py_object(CpuLimitExceeded))
