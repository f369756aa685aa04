"""CPU time of user code, and of nothing else.

A `Meter` is charged for every stretch between the resumption of a script's coroutine and its next suspension; waiting
costs nothing. `MeteredCoroutine` does that around a coroutine, `metering.child_tasks` extends it to tasks that the
script starts in nurseries of its own, `metering.threads` to calls in worker threads. Nested measurement is exclusive:
what an inner meter is charged, the outer one is not.

The clock is the kernel's, of the thread's CPU time. Reading it is a system call, which takes longer than most stretches
do and slows down what follows; reading the wall's clock is none. While a thread runs both go at one speed, so the
wall's clock, without the waits of the loop, is added to the last reading. The CPU clock is read again where the thread
may have stood still for more than `CLOCK_READ_S`: at the end of a stretch of that length, and at the beginning of one
so long after the last, or after `WAITS_MAX` waits, whose own use of the processor is not seen. What stands still for
less is charged, and taken back at the next reading, which is at the end of a stretch at least every `CLOCK_DUE_S`. The
sum of all that is charged, and of the overhead beside it, is the kernel's.

Times are seconds in floating point, which the interpreter adds and stores at half the price of integers of this size.
Those of clocks are exact to a nanosecond for the first hundred days that a machine is up.

What runs on the event loop's thread right now is shown on a page that others can read while it runs (`running`):
whoever stops an event that has used more than its limit looks there.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import wraps
from time import monotonic, thread_time
from types import CoroutineType, coroutine
from typing import Any, Final, NoReturn, TypeVar

from edge_runtime import forked
from edge_runtime.errors import CpuLimitExceeded
from edge_runtime.metering.meter import Meter

T = TypeVar("T")

CLOCK_READ_S: Final = 200e-6
"""Between two looks at the wall's clock, before the CPU clock is read."""
CLOCK_DUE_S: Final = 1e-3
"""How old a reading of the CPU clock may be at the end of a stretch, without the time in which the loop waited."""
WAITS_MAX: Final = 4
DEADLINE: Final = 0
"""Place on the page: what the CPU clock of the loop's thread shows when the running event reaches its limit; 0 while
none runs."""
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
_PLACES: Final = 7
PAGE_BYTES: Final = 8 * _PLACES
_STOP_AGAIN_S: Final = 0.01
"""Of CPU time, before code that goes on after a soft stop gets the next."""
_STUCK_S: Final = 0.05
"""Of CPU time beyond the limit: code that was stopped and then has not ended has swallowed the stop, or is stopped in
vain."""

_exit: Final = os._exit


class _Loop:
    """The event loop's thread."""

    __slots__ = (
        "attributed_s",
        "charged",
        "cpu_less_wall_s",
        "due_s",
        "page",
        "seen_s",
        "since_s",
        "stuck",
        "waits",
        "waits_since_s",
    )

    def __init__(self) -> None:
        self.charged: Meter | None = None
        """The meter whose code runs right now."""
        self.waits = 0
        """Since the CPU clock was read."""
        self.waits_since_s = 0.0
        """On the wall's clock."""
        self.since_s = 0.0
        """On the thread's CPU clock: up to where that one was charged."""
        self.attributed_s = 0.0
        self.cpu_less_wall_s = 0.0
        """When the CPU clock was read last."""
        self.seen_s = self.due_s = 0.0
        """On the wall's clock: when it was looked at last, and when the CPU clock is to be read."""
        self.stuck: Meter | None = None
        """The event whose label STUCK_LABEL shows."""
        self.page: memoryview[float] = memoryview(bytearray(PAGE_BYTES)).cast("d")

    def begins(self) -> float:
        """When a stretch begins, on the thread's CPU clock."""
        wall_s = monotonic()
        close = wall_s - self.seen_s < CLOCK_READ_S
        self.seen_s = wall_s
        return wall_s + self.cpu_less_wall_s if close else self.read_clock(wall_s)

    def ends(self) -> float:
        """When one ends."""
        wall_s = monotonic()
        close = wall_s - self.seen_s < CLOCK_READ_S and wall_s < self.due_s
        self.seen_s = wall_s
        return wall_s + self.cpu_less_wall_s if close else self.read_clock(wall_s)

    def read_clock(self, wall_s: float) -> float:
        if forked.is_stray:
            forked.end_stray()
        now_s = thread_time()
        self.cpu_less_wall_s = now_s - wall_s
        self.due_s = wall_s + CLOCK_DUE_S
        self.waits = 0
        return now_s

    def charge(self, meter: Meter, used_s: float) -> None:
        if used_s < 0.0:
            # The thread did not run for a while since the last reading: what was charged too much is taken back.
            used_s = max(used_s, -meter.cpu_s)
        meter.cpu_s += used_s
        self.attributed_s += used_s

    def let_run(self, meter: Meter, now_s: float) -> None:
        self.charged = meter
        self.since_s = now_s
        page = self.page
        page[LABEL] = meter.label
        page[DEADLINE] = now_s + meter.limit_s - meter.cpu_s
        if meter.charged_s:
            page[LABEL] = meter.label + CHARGED_IN_PART
            page[CHARGED] = meter.shown_s


_loop: Final = _Loop()


def show_running_on(page: memoryview[float]) -> None:
    """Keep DEADLINE and LABEL up to date on this page from now on, whose items are of 8 bytes: `float`, in seconds
    where they are times."""
    _loop.page = page


@wraps(_exit)
def exit_at_once(status: int) -> NoReturn:
    """As os._exit, showing whose doing it is: the code that runs may be that of several threads."""
    ident = threading.get_ident()
    _loop.page[EXITING] = EXITING_LOOP if ident == threading.main_thread().ident else threading.get_native_id()
    _exit(status)


def attributed_on_loop_s() -> float:
    """What the event loop's thread has been charged so far, to any meter."""
    return _loop.attributed_s


def running() -> tuple[Meter, float] | None:
    """The meter whose code runs on the event loop's thread, which must be the caller's, and what it has used by now."""
    meter = _loop.charged
    return None if meter is None else (meter, meter.cpu_s + thread_time() - _loop.since_s)


def running_event() -> Meter | None:
    """The meter whose code runs on the event loop's thread, for any thread that asks."""
    return _loop.charged


def show_part_charged(meter: Meter) -> None:
    """Call when a part of what a meter counts was charged, which may be that of the running code."""
    if _loop.charged is meter:
        _loop.page[CHARGED] = meter.shown_s
        _loop.page[LABEL] = meter.label + CHARGED_IN_PART
    if _loop.stuck is meter:
        _loop.page[STUCK_CHARGED] = meter.shown_s


class MeteredCoroutine(Coroutine[Any, Any, T]):
    """A coroutine that charges its running time to a meter, and is stopped when that is over its limit.

    Sets no context: wrap the call that creates tasks in a context where `user_meter` is set.
    """

    __slots__ = ("__weakref__", "_coro", "_meter", "_send", "_throw")

    def __init__(self, coro: Awaitable[T], meter: Meter) -> None:
        self._coro: Any = coro if isinstance(coro, Coroutine) else _await(coro)
        self._meter = meter
        self._send = self._coro.send
        self._throw = self._coro.throw

    def send(self, value: Any) -> Any:
        meter = self._meter
        if meter.cpu_s > meter.stop_s:
            return self.throw(stop_of(meter, meter.cpu_s))
        outer = _begin(meter)
        try:
            return self._send(value)
        finally:
            _end(outer)

    def throw(self, typ: Any, val: Any = None, tb: Any = None) -> Any:
        return measure_inline(self._meter, self._throw, typ)

    def close(self) -> None:
        measure_inline(self._meter, self._coro.close)

    def __await__(self) -> Generator[Any, Any, T]:
        return self

    def __iter__(self) -> MeteredCoroutine[T]:
        return self

    def __next__(self) -> Any:
        return self.send(None)

    def __getattr__(self, name: str) -> Any:
        # trio and traceback tools look at cr_frame, cr_code and __qualname__ of a task's coroutine.
        return getattr(self._coro, name)


@coroutine
def metered_call(meter: Meter, fn: Callable[..., Any], args: tuple[object, ...]) -> Generator[Any, Any, Any]:
    """Call `fn(*args)`, and await what it returns if that can be awaited, charging the running time to a meter.

    What `MeteredCoroutine` does for a coroutine that others step, at a third of its price: every event comes by here.
    """
    loop = _loop
    step: Any = None
    argument: object = None
    while True:
        # `_begin` and `_end` are written out: their calls would be a third of all that measuring costs.
        wall_s = monotonic()
        close = wall_s - loop.seen_s < CLOCK_READ_S
        loop.seen_s = wall_s
        now_s = wall_s + loop.cpu_less_wall_s if close else loop.read_clock(wall_s)
        outer = loop.charged
        if outer is not None:
            loop.charge(outer, now_s - loop.since_s)
        loop.charged = meter
        loop.since_s = now_s
        page = loop.page
        page[LABEL] = meter.label
        page[DEADLINE] = now_s + meter.limit_s - meter.cpu_s
        if meter.charged_s:
            page[LABEL] = meter.label + CHARGED_IN_PART
            page[CHARGED] = meter.shown_s
        try:
            if step is None:
                result = fn(*args)
                if type(result) is not CoroutineType and not isinstance(result, Coroutine):
                    if not isinstance(result, Awaitable):
                        return result
                    result = _await(result)
                step = result.send
            try:
                yielded = step(argument)
            except StopIteration as stop:
                return stop.value
        finally:
            step = argument = None  # an error's traceback holds this frame
            wall_s = monotonic()
            close = wall_s - loop.seen_s < CLOCK_READ_S and wall_s < loop.due_s
            loop.seen_s = wall_s
            now_s = wall_s + loop.cpu_less_wall_s if close else loop.read_clock(wall_s)
            used_s = now_s - loop.since_s
            if used_s < 0.0:
                loop.charge(meter, used_s)
            else:
                meter.cpu_s += used_s
                loop.attributed_s += used_s
            if outer is None:
                loop.charged = None
                page[DEADLINE] = 0.0
            else:
                loop.let_run(outer, now_s)
        step = result.send
        try:
            argument = yield yielded
        except GeneratorExit:
            measure_inline(meter, result.close)
            raise
        except BaseException as error:
            step, argument = result.throw, error
        else:
            if meter.cpu_s > meter.stop_s:
                step, argument = result.throw, stop_of(meter, meter.cpu_s)


async def _await(awaitable: Awaitable[T]) -> T:
    return await awaitable


def measure_inline(meter: Meter, fn: Callable[..., T], *args: object) -> T:
    """Call `fn(*args)` on the event loop's thread, charging `meter` and not the meter around it."""
    outer = _begin(meter)
    try:
        return fn(*args)
    finally:
        _end(outer)


def _begin(meter: Meter) -> Meter | None:
    """Charge the loop's thread to `meter` from now on; returns whom it was charged to, for `_end`."""
    now_s = _loop.begins()
    outer = _loop.charged
    if outer is not None:
        _loop.charge(outer, now_s - _loop.since_s)
    _loop.let_run(meter, now_s)
    return outer


def _end(outer: Meter | None) -> None:
    """Charge `outer` again from now on."""
    now_s = _loop.ends()
    if _loop.charged is not None:
        _loop.charge(_loop.charged, now_s - _loop.since_s)
    if outer is None:
        _loop.charged = None
        _loop.page[DEADLINE] = 0.0
    else:
        _loop.let_run(outer, now_s)


def begin_wait() -> None:
    """The event loop is about to wait, outside of all code that is charged: the CPU clock stands still."""
    _loop.waits_since_s = monotonic()


def end_wait() -> None:
    wall_s = monotonic()
    waited_s = wall_s - _loop.waits_since_s
    _loop.cpu_less_wall_s -= waited_s
    _loop.due_s += waited_s
    _loop.waits += 1
    if _loop.waits > WAITS_MAX:
        forget_clock()
    elif _loop.waits_since_s - _loop.seen_s < CLOCK_READ_S:
        _loop.seen_s = wall_s


def forget_clock() -> None:
    """The next look reads the CPU clock."""
    _loop.seen_s = 0.0


def _be_a_copy() -> None:
    """In a forked process: the page is the parent's, and the next look at the clock ends it if it has strayed."""
    forget_clock()
    show_running_on(memoryview(bytearray(_loop.page)).cast("d"))


os.register_at_fork(after_in_child=_be_a_copy)


def unmetered(fn: Callable[[], None]) -> None:
    """Call `fn()` on the event loop's thread for the runtime, in the midst of code that is being charged, which is not
    charged for it."""
    outer = _loop.charged
    _end(None)
    try:
        fn()
    finally:
        if outer is not None:
            _begin(outer)


def show_stuck_charged() -> None:
    """Bring STUCK_CHARGED up to date, after something was charged."""
    if _loop.stuck is not None:
        _loop.page[STUCK_CHARGED] = _loop.stuck.shown_s


def stop_of(meter: Meter, used_s: float) -> CpuLimitExceeded:
    """What is to be raised in code that has used `used_s`; the next stop is due a little later."""
    if used_s - meter.limit_s > _STUCK_S and meter.stop_s > meter.limit_s:
        _loop.stuck = meter
        _loop.page[STUCK_LABEL] = meter.label + 1
        _loop.page[STUCK] = used_s
        _loop.page[STUCK_CHARGED] = meter.shown_s
    meter.stop_s = used_s + _STOP_AGAIN_S
    return CpuLimitExceeded()
