"""CPU time of user code, and of nothing else.

A `Meter` is charged for every stretch between the resumption of a script's coroutine and its next suspension; waiting
costs nothing. `MeteredCoroutine` does that around a coroutine, `metering.child_tasks` extends it to tasks that the
script starts in nurseries of its own, `metering.threads` to calls in worker threads. Nested measurement is exclusive:
what an inner meter is charged, the outer one is not. How a stretch is timed and shown: `metering.loop_thread`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator
from time import monotonic
from types import CoroutineType, coroutine
from typing import Any, Final, TypeVar

from edge_runtime.metering.loop_thread import (
    CHARGED,
    CHARGED_IN_PART,
    CLOCK_READ_S,
    DEADLINE,
    LABEL,
    loop_thread,
    stop_of,
)
from edge_runtime.metering.meter import Meter

T = TypeVar("T")

_OVER: Final = object()


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
        outer = loop_thread.begin(meter)
        try:
            return self._send(value)
        finally:
            loop_thread.end(outer)

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
    loop = loop_thread
    returned: list[Any] = []
    step: Any = None
    argument: object = None
    while True:
        # `begin` and `end` of the loop's thread are written out: their calls would be a third of what measuring costs.
        wall_s = monotonic()
        if wall_s >= loop.sure_until_s:
            loop.read_clock(wall_s)
        loop.sure_until_s = wall_s + CLOCK_READ_S
        outer = loop.charged
        if outer is not None:
            loop.charge(outer, wall_s - loop.since_s)
        loop.charged = meter
        loop.since_s = wall_s
        page = loop.page
        if meter.shown_s:
            page[CHARGED] = meter.shown_s
            page[LABEL] = meter.label + CHARGED_IN_PART
        else:
            page[LABEL] = meter.label
        page[DEADLINE] = wall_s + loop.cpu_less_wall_s + meter.limit_s - meter.cpu_s
        try:
            if step is None:
                work = _call(fn, args, returned)
                # Most are over with their first stretch, which `next` can say without an exception.
                yielded = next(work.__await__(), _OVER)
                if yielded is _OVER:
                    return returned[0]
            else:
                try:
                    yielded = step(argument)
                except StopIteration:
                    return returned[0]
        finally:
            step = argument = None  # an error's traceback holds this frame
            wall_s = monotonic()
            if wall_s >= loop.sure_until_s or wall_s >= loop.due_s:
                loop.read_clock(wall_s)
            loop.sure_until_s = wall_s + CLOCK_READ_S
            used_s = wall_s - loop.since_s
            if used_s < 0.0:
                loop.charge(meter, used_s)
            else:
                meter.cpu_s += used_s
                loop.attributed_s += used_s
            if outer is None:
                loop.charged = None
                page[DEADLINE] = 0.0
            else:
                loop.let_run(outer, wall_s)
        step = work.send
        try:
            argument = yield yielded
        except GeneratorExit:
            measure_inline(meter, work.close)
            raise
        except BaseException as error:
            step, argument = work.throw, error
        else:
            if meter.cpu_s > meter.stop_s:
                step, argument = work.throw, stop_of(meter, meter.cpu_s)


async def _call(fn: Callable[..., Any], args: tuple[object, ...], returned: list[Any]) -> None:
    result = fn(*args)
    if type(result) is CoroutineType or isinstance(result, Awaitable):
        result = await result
    returned.append(result)


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
