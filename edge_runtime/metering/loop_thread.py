"""What runs on the event loop's thread: whom its CPU time is charged to, and the page on which that is shown.

The clock is the kernel's, of the thread's CPU time. Reading it is a system call, which takes longer than most stretches
do and slows down what follows; reading the wall's clock is none. While a thread runs both go at one speed, so the
wall's clock, without the waits of the loop, is added to the last reading. The CPU clock is read again where the thread
may have stood still for more than `CLOCK_READ_S`: at the end of a stretch of that length, and at the beginning of one
so long after the last, or after `WAITS_MAX` waits, whose own use of the processor is not seen. What stands still for
less is charged, and taken back at the next reading, which is at the end of a stretch at least every `CLOCK_DUE_S`. The
sum of all that is charged, and of the overhead beside it, is the kernel's.

Times are seconds in floating point, which the interpreter adds and stores at half the price of integers of this size.
Those of clocks are exact to a nanosecond for the first hundred days that a machine is up.

Others can read the page while code runs: whoever stops an event that has used more than its limit looks there.
"""

from __future__ import annotations

import os
import threading
from functools import wraps
from time import monotonic, thread_time
from typing import Final, NoReturn

from edge_runtime import forked
from edge_runtime.errors import CpuLimitExceeded
from edge_runtime.metering.meter import NO_LIMIT_S, Meter

CLOCK_READ_S: Final = 200e-6
"""Between two looks at the wall's clock, before the CPU clock is read."""
CLOCK_DUE_S: Final = 1e-3
"""How old a reading of the CPU clock may be at the end of a stretch, without the time in which the loop waited."""
WAITS_MAX: Final = 4
SINCE: Final = 0
"""Place on the page: since when the running event would have run if it had done so without a break, on the wall's
clock; NO_LIMIT_S for code that may run as long as it likes; 0 while none runs, or since one that has given up control
the loop has waited."""
LABEL: Final = 1
"""Place on the page: `Meter.label` of the event that runs, or ran last."""
STUCK_LABEL: Final = 2
"""Place on the page: 1 + `Meter.label` of an event that goes on although it was stopped several times; 0: none."""
STUCK: Final = 3
"""Place on the page: how much that one had used when it was stopped."""
CHARGED: Final = 4
"""Place on the page: `Meter.shown_s` of the running event, if its label there has CHARGED_IN_PART
added to it."""
STUCK_CHARGED: Final = 5
"""Place on the page: the same of the one that is stuck."""
CHARGED_IN_PART: Final = 1 << 52
EXITING: Final = 6
"""Place on the page: the kernel's id of the thread that has called os._exit(), EXITING_LOOP for the event loop's, 0 as
long as none has."""
EXITING_LOOP: Final = -1
CPU_LESS_WALL: Final = 7
"""Place on the page: what, added to a time on the wall's clock, makes it one on the CPU clock of the loop's thread."""
_PLACES: Final = 8
PAGE_BYTES: Final = 8 * _PLACES
_STOP_AGAIN_S: Final = 0.01
"""Of CPU time, before code that goes on after a soft stop gets the next."""
_STUCK_S: Final = 0.05
"""Of CPU time beyond the limit: code that was stopped and then has not ended has swallowed the stop, or is stopped in
vain."""

_exit: Final = os._exit


class _LoopThread:
    """The event loop's thread."""

    __slots__ = (
        "attributed_s",
        "charged",
        "cpu_less_wall_s",
        "due_s",
        "page",
        "since_s",
        "stuck",
        "waits",
        "waits_since_s",
    )

    def __init__(self) -> None:
        self.charged: Meter | None = None
        """The meter whose code runs right now."""
        self.since_s = 0.0
        """On the wall's clock: since when this one is charged, moved on by as much as the thread was seen to stand
        still. Where nobody is charged, since when, or since the loop's wait after that."""
        self.attributed_s = 0.0
        self.cpu_less_wall_s = 0.0
        """When the CPU clock was read last."""
        self.due_s = 0.0
        """On the wall's clock: when the CPU clock is to be read at the end of a stretch."""
        self.waits = 0
        """Since the CPU clock was read."""
        self.waits_since_s = 0.0
        """On the wall's clock."""
        self.stuck: Meter | None = None
        """The event whose label STUCK_LABEL shows."""
        self.page: memoryview[float] = memoryview(bytearray(PAGE_BYTES)).cast("d")

    def begin(self, meter: Meter) -> Meter | None:
        """Charge the thread to `meter` from now on; returns whom it was charged to, for `end`."""
        wall_s = monotonic()
        if wall_s - self.since_s >= CLOCK_READ_S:
            self.read_clock(wall_s)
        outer = self.charged
        if outer is not None:
            self.charge(outer, wall_s)
        self.let_run(meter, wall_s)
        return outer

    def end(self, outer: Meter | None) -> None:
        """Charge `outer` again from now on."""
        wall_s = monotonic()
        if wall_s - self.since_s >= CLOCK_READ_S or wall_s >= self.due_s:
            self.read_clock(wall_s)
        if self.charged is not None:
            self.charge(self.charged, wall_s)
        if outer is None:
            self.charged = None
            self.since_s = wall_s
            self.page[SINCE] = 0.0
        else:
            self.let_run(outer, wall_s)

    def end_uncharged(self, meter: Meter, outer: Meter | None) -> None:
        """As `end`, for code of a meter that is not the one that is charged."""
        if self.charged is None:
            # It has stepped a coroutine by hand, which gave up control, and has gone on.
            self.let_run(meter, self.since_s)
            self.end(outer)
        # Else somebody closes a coroutine that was left behind, and goes on to be charged.

    def let_run(self, meter: Meter, wall_s: float) -> None:
        self.charged = meter
        self.since_s = wall_s
        page = self.page
        if meter.shown_s:
            page[CHARGED] = meter.shown_s
            page[LABEL] = meter.label + CHARGED_IN_PART
        else:
            page[LABEL] = meter.label
        page[SINCE] = wall_s - meter.cpu_s if meter.limit_s < NO_LIMIT_S else NO_LIMIT_S

    def charge(self, meter: Meter, wall_s: float) -> None:
        used_s = wall_s - self.since_s
        if used_s < 0.0:
            # The thread did not run for a while since the last reading: what was charged too much is taken back.
            used_s = max(used_s, -meter.cpu_s)
        meter.cpu_s += used_s
        self.attributed_s += used_s

    def read_clock(self, wall_s: float) -> None:
        if forked.is_stray:
            forked.end_stray()
        cpu_less_wall_s = thread_time() - wall_s
        self.since_s += self.cpu_less_wall_s - cpu_less_wall_s
        self.cpu_less_wall_s = self.page[CPU_LESS_WALL] = cpu_less_wall_s
        self.due_s = wall_s + CLOCK_DUE_S
        self.waits = 0


loop_thread: Final = _LoopThread()


def show_running_on(page: memoryview[float]) -> None:
    """Keep this page up to date from now on, whose items are of 8 bytes: `float`, in seconds where they are times."""
    loop_thread.page = page
    page[CPU_LESS_WALL] = loop_thread.cpu_less_wall_s


@wraps(_exit)
def exit_at_once(status: int) -> NoReturn:
    """As os._exit, showing whose doing it is: the code that runs may be that of several threads."""
    ident = threading.get_ident()
    loop_thread.page[EXITING] = EXITING_LOOP if ident == threading.main_thread().ident else threading.get_native_id()
    _exit(status)


def go_on(meter: Meter) -> None:
    """Its code runs although nobody is charged, and has run since somebody was: charge it for all of that."""
    loop_thread.let_run(meter, loop_thread.since_s)


def attributed_on_loop_s() -> float:
    """What the event loop's thread has been charged so far, to any meter."""
    return loop_thread.attributed_s


def running(cpu_s: float) -> tuple[Meter, float] | None:
    """The meter whose code runs on the event loop's thread, and what it has used when that one's CPU clock shows
    `cpu_s`."""
    meter = loop_thread.charged
    if meter is None:
        return None
    return meter, meter.cpu_s + cpu_s - loop_thread.cpu_less_wall_s - loop_thread.since_s


def running_event() -> Meter | None:
    """The meter whose code runs on the event loop's thread, for any thread that asks."""
    return loop_thread.charged


def show_part_charged(meter: Meter) -> None:
    """Call when a part of what a meter counts was charged, which may be that of the running code."""
    if loop_thread.charged is meter:
        loop_thread.page[CHARGED] = meter.shown_s
        loop_thread.page[LABEL] = meter.label + CHARGED_IN_PART
    if loop_thread.stuck is meter:
        loop_thread.page[STUCK_CHARGED] = meter.shown_s


def begin_wait() -> None:
    """The event loop is about to wait, outside of all code that is charged: the CPU clock stands still."""
    loop = loop_thread
    if loop.charged is not None:  # it was closed by the runtime, and did not run to its end
        loop.end(None)
    loop.page[SINCE] = 0.0
    loop.waits_since_s = monotonic()


def end_wait() -> None:
    loop, wall_s = loop_thread, monotonic()
    waited_s = wall_s - loop.waits_since_s
    loop.cpu_less_wall_s = loop.page[CPU_LESS_WALL] = loop.cpu_less_wall_s - waited_s
    loop.due_s += waited_s
    loop.waits += 1
    if loop.waits > WAITS_MAX:
        forget_clock()
    elif loop.waits_since_s - loop.since_s < CLOCK_READ_S:
        loop.since_s = wall_s


def forget_clock() -> None:
    """The next stretch reads the CPU clock, where it begins or where it ends."""
    loop_thread.due_s = 0.0
    if loop_thread.charged is None:
        loop_thread.since_s = 0.0


def _be_a_copy() -> None:
    """In a forked process: the page is the parent's, and the next look at the clock ends it if it has strayed."""
    forget_clock()
    show_running_on(memoryview(bytearray(loop_thread.page)).cast("d"))


os.register_at_fork(after_in_child=_be_a_copy)


def show_stuck_charged() -> None:
    """Bring STUCK_CHARGED up to date, after something was charged."""
    if loop_thread.stuck is not None:
        loop_thread.page[STUCK_CHARGED] = loop_thread.stuck.shown_s


def stop_of(meter: Meter, used_s: float) -> CpuLimitExceeded:
    """What is to be raised in code that has used `used_s`; the next stop is due a little later."""
    if used_s - meter.limit_s > _STUCK_S and meter.stop_s > meter.limit_s:
        loop_thread.stuck = meter
        loop_thread.page[STUCK_LABEL] = meter.label + 1
        loop_thread.page[STUCK] = used_s
        loop_thread.page[STUCK_CHARGED] = meter.shown_s
    meter.stop_s = used_s + _STOP_AGAIN_S
    return CpuLimitExceeded()
