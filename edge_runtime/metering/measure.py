"""CPU time of user code, and of nothing else.

A `Meter` is charged for every stretch between the resumption of a script's coroutine and its next suspension; waiting
costs nothing. `MeteredCoroutine` does that around a coroutine, `metering.child_tasks` extends it to tasks that the
script starts in nurseries of its own, `metering.threads` to calls in worker threads. Nested measurement is exclusive:
what an inner meter is charged, the outer one is not.

The clock is the kernel's, of the thread's CPU time. Reading it is a system call, which takes longer than most stretches
do; reading the wall's clock is none. While a thread runs both go at one speed, so the CPU clock is read when the last
reading is older than `CLOCK_READ_NS`, and the wall's clock is added to that reading until then. A stretch is wrong by
that much at most, and only if the thread stood still since the reading; the next reading takes it back, from the code
that runs by then. The sum of all that is charged, and of the overhead beside it, is the kernel's.

What runs on the event loop's thread right now is shown on a page that others can read while it runs (`running`):
whoever stops an event that has used more than its limit looks there.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Coroutine, Generator
from time import monotonic_ns, thread_time_ns
from types import CoroutineType, coroutine
from typing import Any, Final, TypeVar

from edge_runtime import forked
from edge_runtime.errors import CpuLimitExceeded
from edge_runtime.metering.meter import Meter

T = TypeVar("T")

CLOCK_READ_NS: Final = 200_000
"""How old a reading of the CPU clock may be."""
DEADLINE: Final = 0
"""Place on the page: what the CPU clock of the loop's thread shows when the running event reaches its limit; 0 while
none runs."""
LABEL: Final = 1
"""Place on the page: `Meter.label` of the event that runs, or ran last."""
STUCK_LABEL: Final = 2
"""Place on the page: 1 + `Meter.label` of an event that goes on although it was stopped several times; 0: none."""
STUCK_NS: Final = 3
"""Place on the page: how much of what that one had used was not in the ledger."""
_PLACES: Final = 4
PAGE_BYTES: Final = 8 * _PLACES
_STOP_AGAIN_NS: Final = 10_000_000
"""Of CPU time, before code that goes on after a soft stop gets the next."""
_STUCK_NS: Final = 50_000_000
"""Of CPU time beyond the limit: code that then has not ended has swallowed the stop, or is stopped in vain."""

_charged: Meter | None = None
"""The meter being charged right now on the event loop's thread, so that nesting is exclusive."""
_page = memoryview(bytearray(PAGE_BYTES)).cast("q")
_attributed_ns = 0
_cpu_less_wall_ns = 0
"""Of the event loop's thread, when its CPU clock was read last."""
_read_again_ns = 0
"""On the wall's clock."""


def show_running_on(page: memoryview) -> None:
    """Keep DEADLINE and LABEL up to date on this page from now on; its items are signed and 8 bytes long."""
    global _page
    _page = page


def attributed_on_loop_ns() -> int:
    """What the event loop's thread has been charged so far, to any meter."""
    return _attributed_ns


def running() -> tuple[Meter, int] | None:
    """The meter whose code runs on the event loop's thread, which must be the caller's, and what it has used by now."""
    meter = _charged
    if meter is None:
        return None
    return meter, meter.limit_ns - (_page[DEADLINE] - thread_time_ns())


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
        if meter.cpu_ns > meter.stop_ns:
            return self.throw(stop_of(meter, meter.cpu_ns))
        begun = _begin(meter)
        try:
            return self._send(value)
        finally:
            _end(meter, begun)

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
    begun = _begin(meter)
    try:
        result = fn(*args)
        if type(result) is not CoroutineType and not isinstance(result, Coroutine):
            if not isinstance(result, Awaitable):
                return result
            result = _await(result)
        send = result.send
        try:
            yielded = send(None)
        except StopIteration as stop:
            return stop.value
    finally:
        _end(meter, begun)
    while True:
        step, argument = send, None
        try:
            argument = yield yielded
        except GeneratorExit:
            measure_inline(meter, result.close)
            raise
        except BaseException as error:
            step, argument = result.throw, error
        else:
            if meter.cpu_ns > meter.stop_ns:
                step, argument = result.throw, stop_of(meter, meter.cpu_ns)
        begun = _begin(meter)
        try:
            yielded = step(argument)
        except StopIteration as stop:
            return stop.value
        finally:
            del step, argument  # an error's traceback holds this frame
            _end(meter, begun)


async def _await(awaitable: Awaitable[T]) -> T:
    return await awaitable


def measure_inline(meter: Meter, fn: Callable[..., T], *args: object) -> T:
    """Call `fn(*args)` on the event loop's thread, charging `meter` and not the meter around it."""
    begun = _begin(meter)
    try:
        return fn(*args)
    finally:
        _end(meter, begun)


def _begin(meter: Meter) -> tuple[Meter | None, int, int]:
    """Charge the loop's thread to a meter from now on; give what is returned to `_end`."""
    global _charged, _cpu_less_wall_ns, _read_again_ns
    outer = _charged
    _charged = meter
    wall = monotonic_ns()
    if wall < _read_again_ns:
        before = wall + _cpu_less_wall_ns
    else:
        before = thread_time_ns()
        _cpu_less_wall_ns = before - wall
        _read_again_ns = wall + CLOCK_READ_NS
    page = _page
    outer_deadline = 0 if outer is None else page[DEADLINE]
    page[LABEL] = meter.label
    page[DEADLINE] = before + meter.limit_ns - meter.cpu_ns
    return outer, outer_deadline, before


def _end(meter: Meter, begun: tuple[Meter | None, int, int]) -> None:
    global _attributed_ns, _charged, _cpu_less_wall_ns, _read_again_ns
    if forked.is_stray:
        forked.end_stray()
    outer, outer_deadline, before = begun
    wall = monotonic_ns()
    if wall < _read_again_ns:
        used = wall + _cpu_less_wall_ns - before
    else:
        now = thread_time_ns()
        _cpu_less_wall_ns = now - wall
        _read_again_ns = wall + CLOCK_READ_NS
        used = now - before
        if used < 0:
            # The thread did not run for a while since the last reading: what was charged too much is taken back.
            used = max(used, -meter.cpu_ns)
    meter.cpu_ns += used
    _charged = outer
    if outer is None:
        _page[DEADLINE] = 0
        _attributed_ns += used
    else:
        outer.cpu_ns -= used
        _page[LABEL] = outer.label
        _page[DEADLINE] = outer_deadline + used


def _now_ns() -> int:
    """The clock of `_begin` and `_end`, which have it written out."""
    global _cpu_less_wall_ns, _read_again_ns
    wall = monotonic_ns()
    if wall >= _read_again_ns:
        _cpu_less_wall_ns = thread_time_ns() - wall
        _read_again_ns = wall + CLOCK_READ_NS
    return wall + _cpu_less_wall_ns


def forget_clock() -> None:
    """The event loop's thread is another one from now on."""
    global _read_again_ns
    _read_again_ns = 0


def _be_a_copy() -> None:
    """In a forked process: the page is the parent's."""
    forget_clock()
    show_running_on(memoryview(bytearray(_page)).cast("q"))


os.register_at_fork(after_in_child=_be_a_copy)


def unmetered(fn: Callable[[], None]) -> None:
    """Call `fn()` on the event loop's thread for the runtime, in the midst of code that is being charged, which is not
    charged for it."""
    global _attributed_ns, _charged
    outer, page = _charged, _page
    if outer is None:
        fn()
        return
    deadline = page[DEADLINE]
    _charged = None
    page[DEADLINE] = 0
    before = _now_ns()
    try:
        fn()
    finally:
        used = _now_ns() - before
        outer.cpu_ns -= used
        _attributed_ns -= used
        _charged = outer
        page[LABEL] = outer.label
        page[DEADLINE] = deadline + used


def stop_of(meter: Meter, used_ns: int) -> CpuLimitExceeded:
    """What is to be raised in code that has used `used_ns`; the next stop is due a little later."""
    over_ns = used_ns - meter.limit_ns
    if over_ns > _STUCK_NS:
        _page[STUCK_LABEL] = meter.label + 1
        _page[STUCK_NS] = used_ns - meter.charged_ns
    meter.stop_ns = used_ns + _STOP_AGAIN_NS
    return CpuLimitExceeded()
