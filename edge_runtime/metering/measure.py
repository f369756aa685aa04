"""CPU time of user code, and of nothing else.

A `Meter` is charged from where a script's function is called until it has returned (`metered_call`), without the time
in which the task that runs it has given up control: where trio's tasks do that, `suspend` ends a stretch, and begins
the next when the task goes on. asyncio's tasks do it elsewhere: a `MeteredCoroutine` takes the steps of each.
`metering.child_tasks` charges tasks that a script starts to its event, `metering.threads` calls in worker threads.

Code that steps a coroutine itself, and goes on when that gives up control, is charged again from the next tick of
`isolate.events.cpu_guard` on, or the end of its call, for all that it has used since; and where native code keeps that
tick away, the page goes on to show it (see `loop_thread.begin_wait`).

Nested measurement is exclusive: what an inner meter is charged, the outer one is not. How a stretch is timed and shown:
`metering.loop_thread`.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Coroutine, Generator
from threading import get_ident, main_thread
from time import monotonic
from types import CoroutineType, FrameType, coroutine
from typing import Any, Final, TypeVar, cast

import trio
from trio._core import _traps

from edge_runtime.metering.loop_thread import (
    CHARGED,
    CHARGED_IN_PART,
    CLOCK_READ_S,
    LABEL,
    SINCE,
    loop_thread,
    stop_of,
)
from edge_runtime.metering.meter import Meter, user_meter
from edge_runtime.metering.threads import before_first_call

T = TypeVar("T")

_LOOP: Final = main_thread().ident
_meter_here: Final = user_meter.get
"""Bound once: the interpreter would make the method anew at each look."""

if not hasattr(_traps, "_async_yield"):
    raise RuntimeError(
        f"trio {trio.__version__} lacks _traps._async_yield, where the meter notices that a task waits; allowed: 0.34, "
        "0.35"
    )


async def metered_call(meter: Meter, fn: Callable[..., Any], args: tuple[object, ...]) -> Any:
    """Call `fn(*args)`, and await what it returns if that can be awaited, charging the running time to a meter.

    For a task of trio's, in a context where `user_meter` is set to that, or within a `MeteredCoroutine`.
    """
    # `begin` and `end` of the loop's thread are written out: every event comes by here.
    loop = loop_thread
    wall_s = monotonic()
    if wall_s - loop.since_s >= CLOCK_READ_S:
        loop.read_clock(wall_s)
    outer = loop.charged
    if outer is not None:
        loop.charge(outer, wall_s)
    loop.charged = meter
    loop.since_s = wall_s
    page = loop.page
    if meter.shown_s:
        page[CHARGED] = meter.shown_s
        page[LABEL] = meter.label + CHARGED_IN_PART
    else:
        page[LABEL] = meter.label
    page[SINCE] = wall_s - meter.cpu_s
    try:
        result = fn(*args)
        if type(result) is CoroutineType or isinstance(result, Awaitable):
            return await result
        return result
    finally:
        if loop.charged is meter:
            wall_s = monotonic()
            used_s = wall_s - loop.since_s
            if outer is not None or used_s >= CLOCK_READ_S or wall_s >= loop.due_s:
                loop.end(outer)
            else:
                meter.cpu_s += used_s
                loop.attributed_s += used_s
                loop.charged = None
                loop.since_s = wall_s
                page[SINCE] = 0.0
        else:
            loop.end_uncharged(meter, outer)


@coroutine
def suspend(message: Any) -> Generator[Any, Any, Any]:
    """Give up control, with a message for trio; returns what trio sends.

    In the place of the one generator that all of trio's waits and checkpoints come by. To step the coroutine of each
    event by hand instead would take as long again as all the rest that the meter does.
    """
    loop = loop_thread
    meter = loop.charged
    if meter is None:
        return (yield message)
    if _meter_here() is not meter:
        if get_ident() == _LOOP:
            # The runtime's code, after a script has given up control with something that trio does not know.
            loop.end(None)
        return (yield message)
    # `end` and `begin` of the loop's thread are written out: their calls would be a fifth of the price.
    wall_s = monotonic()
    used_s = wall_s - loop.since_s
    if used_s >= CLOCK_READ_S or wall_s >= loop.due_s:
        loop.read_clock(wall_s)
        loop.charge(meter, wall_s)
    else:
        meter.cpu_s += used_s
        loop.attributed_s += used_s
    loop.charged = None
    loop.since_s = wall_s
    try:
        sent = yield message
    except BaseException:
        _go_on_by_hand(meter, wall_s)
        raise
    wall_s = monotonic()
    if wall_s - loop.since_s >= CLOCK_READ_S:
        loop.read_clock(wall_s)
    if loop_thread.charged is not None:  # whose code steps this by hand
        loop.charge(loop_thread.charged, wall_s)
    loop.charged = meter
    loop.since_s = wall_s
    page = loop.page
    if meter.shown_s:
        page[CHARGED] = meter.shown_s
        page[LABEL] = meter.label + CHARGED_IN_PART
    else:
        page[LABEL] = meter.label
    page[SINCE] = wall_s - meter.cpu_s
    if meter.cpu_s > meter.stop_s:
        raise stop_of(meter, meter.cpu_s)
    return sent


_yield: Final = _traps._async_yield
_traps._async_yield = suspend


def _suspend_on_any_thread(message: Any) -> Any:
    """As `suspend`, where a thread may have a trio of its own, and run it in the context of an event."""
    return suspend(message) if get_ident() == _LOOP else _yield(message)


def _heed_threads() -> None:
    _traps._async_yield = cast(Any, _suspend_on_any_thread)  # to ask that where no thread is takes time


before_first_call(_heed_threads)


def _go_on_by_hand(meter: Meter, left_s: float) -> None:
    """Its code, that gave up control at that time, goes on by an exception that is not trio's: somebody closes it."""
    loop = loop_thread
    if loop.charged is not None:
        return  # that one is charged
    if loop.since_s == left_s and loop.page[SINCE]:
        # Nobody was charged since, and the loop has not waited: the code that gave up control is stepped by code that
        # is charged to this meter, too.
        loop.let_run(meter, left_s)
    elif calling(sys._getframe()) is not None:
        loop.begin(meter)


def calling(frame: FrameType | None) -> Meter | None:
    """Whose call is the innermost one on the stack that ends with this frame; None if there is none."""
    while frame is not None:
        if frame.f_code is metered_call.__code__:
            meter: Meter = frame.f_locals["meter"]
            return meter
        frame = frame.f_back
    return None


class MeteredCoroutine(Coroutine[Any, Any, T]):
    """A coroutine that charges each of its steps to a meter: `meter` at first, then the one that was charged when the
    step before it ended. Over its limit, that is stopped where it goes on; code that it runs may begin more of it.
    `meter` None: the runtime's code, which may call that of scripts.

    Sets no context: wrap the call that creates tasks in a context where `user_meter` is set.
    """

    __slots__ = ("__weakref__", "_coro", "_meter")

    def __init__(self, coro: Awaitable[T], meter: Meter | None) -> None:
        self._coro: Any = coro if isinstance(coro, Coroutine) else _await(coro)
        self._meter = meter

    def send(self, value: Any) -> Any:
        meter = self._meter
        if meter is not None and meter.cpu_s > meter.stop_s and meter is not loop_thread.charged:
            return self.throw(stop_of(meter, meter.cpu_s))
        return self._step(self._coro.send, value)

    def throw(self, typ: Any, val: Any = None, tb: Any = None) -> Any:
        return self._step(self._coro.throw, typ)

    def close(self) -> None:
        self._step(self._coro.close)

    def _step(self, step: Callable[..., Any], *args: object) -> Any:
        loop, meter = loop_thread, self._meter
        outer = loop.charged
        if meter is not outer:
            if meter is None:
                loop.end(None)
            else:
                loop.begin(meter)
        try:
            return step(*args)
        finally:
            self._meter = charged = loop.charged
            if charged is not outer:
                loop.end(outer)

    def __await__(self) -> Generator[Any, Any, T]:
        return self

    def __iter__(self) -> MeteredCoroutine[T]:
        return self

    def __next__(self) -> Any:
        return self.send(None)

    # What asyncio and traceback tools look at. Each by itself: with `__getattr__` the interpreter would look up all
    # attributes of a class in its slow way.

    @property
    def __name__(self) -> str:
        return str(self._coro.__qualname__)

    @property
    def cr_await(self) -> Any:
        return self._coro.cr_await

    @property
    def cr_code(self) -> Any:
        return self._coro.cr_code

    @property
    def cr_frame(self) -> Any:
        return self._coro.cr_frame

    @property
    def cr_running(self) -> bool:
        return bool(self._coro.cr_running)


async def _await(awaitable: Awaitable[T]) -> T:
    return await awaitable


def measure_inline(meter: Meter, fn: Callable[..., T], *args: object) -> T:
    """Call `fn(*args)` on the event loop's thread, charging `meter` and not the meter around it."""
    outer = loop_thread.begin(meter)
    try:
        return fn(*args)
    finally:
        loop_thread.end(outer)


def unmetered(fn: Callable[[], None]) -> None:
    """Call `fn()` on the event loop's thread for the runtime, in the midst of code that is being charged, which is not
    charged for it."""
    outer = loop_thread.charged
    loop_thread.end(None)
    try:
        fn()
    finally:
        if outer is not None:
            loop_thread.begin(outer)
