"""CPU time of user code, and of nothing else.

A `Meter` is charged for every stretch between the resumption of a script's coroutine and its next suspension, read
from the kernel's per-thread CPU clock; waiting costs nothing. `MeteredCoroutine` does that around a coroutine,
`ChildTaskMeter` extends it to tasks that the script starts in nurseries of its own, `measure_call` to calls in worker
threads. Nested measurement is exclusive: what an inner meter is charged, the outer one is not.
"""

from __future__ import annotations

import contextvars
import threading
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Generator
from time import monotonic_ns, thread_time_ns
from types import CoroutineType, coroutine
from typing import Any, TypeVar

import trio

T = TypeVar("T")


class Meter:
    """What one event used. Times are nanoseconds here and microseconds wherever they leave this package."""

    __slots__ = ("cpu_ns", "quantities", "started_ns", "subrequests")

    def __init__(self) -> None:
        self.cpu_ns = 0
        self.started_ns = monotonic_ns()
        self.subrequests = 0
        self.quantities: defaultdict[str, int] = defaultdict(int)
        """By the names of `metering.quantities`; subrequests are counted apart, because they are limited."""

    @property
    def cpu_us(self) -> int:
        return self.cpu_ns // 1000

    def wall_ms(self) -> float:
        return (monotonic_ns() - self.started_ns) / 1e6


user_meter: contextvars.ContextVar[Meter | None] = contextvars.ContextVar("user_meter", default=None)
"""The meter that user code running in this context is charged to; None in the runtime's own tasks."""

_charged: list[Meter | None] = [None]
"""The meter being charged right now on the event loop's thread, so that nesting is exclusive."""


class MeteredCoroutine(Coroutine[Any, Any, T]):
    """A coroutine that charges its running time to a meter.

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
        outer = _charged[0]
        _charged[0] = meter
        before = thread_time_ns()
        try:
            return self._send(value)
        finally:
            used = thread_time_ns() - before
            meter.cpu_ns += used
            if outer is not None:
                outer.cpu_ns -= used
            _charged[0] = outer

    def throw(self, typ: Any, val: Any = None, tb: Any = None) -> Any:
        meter = self._meter
        outer = _charged[0]
        _charged[0] = meter
        before = thread_time_ns()
        try:
            return self._throw(typ)
        finally:
            used = thread_time_ns() - before
            meter.cpu_ns += used
            if outer is not None:
                outer.cpu_ns -= used
            _charged[0] = outer

    def close(self) -> None:
        self._coro.close()

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
    outer = _charged[0]
    _charged[0] = meter
    before = thread_time_ns()
    try:
        result = fn(*args)
        if type(result) is not CoroutineType:
            if not isinstance(result, Awaitable):
                return result
            result = _await(result)
        send = result.send
        try:
            yielded = send(None)
        except StopIteration as stop:
            return stop.value
    finally:
        used = thread_time_ns() - before
        meter.cpu_ns += used
        if outer is not None:
            outer.cpu_ns -= used
        _charged[0] = outer
    while True:
        step, argument = send, None
        try:
            argument = yield yielded
        except GeneratorExit:
            result.close()
            raise
        except BaseException as error:
            step, argument = result.throw, error
        outer = _charged[0]
        _charged[0] = meter
        before = thread_time_ns()
        try:
            yielded = step(argument)
        except StopIteration as stop:
            return stop.value
        finally:
            del step, argument  # an error's traceback holds this frame
            used = thread_time_ns() - before
            meter.cpu_ns += used
            if outer is not None:
                outer.cpu_ns -= used
            _charged[0] = outer


async def _await(awaitable: Awaitable[T]) -> T:
    return await awaitable


class ChildTaskMeter(trio.abc.Instrument):
    """Charges tasks that user code starts to the meter of the event they were started in.

    Only the spawning of tasks is observed, so tasks of the runtime pay nothing per step.
    """

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        meter = task.context.get(user_meter)
        if meter is not None:
            task.coro = MeteredCoroutine(task.coro, meter)  # type: ignore[assignment]


class _Thread(threading.local):
    charged: Meter | None = None


_thread = _Thread()


def measure_call(meter: Meter, fn: Callable[..., T], *args: object) -> T:
    """Call `fn(*args)` in a worker thread and charge the thread's CPU time of it."""
    outer = _thread.charged
    _thread.charged = meter
    before = thread_time_ns()
    try:
        return fn(*args)
    finally:
        # A local first: between reading the meter and writing it back no other thread gets a turn then.
        used = thread_time_ns() - before
        meter.cpu_ns += used
        if outer is not None:
            outer.cpu_ns -= used
        _thread.charged = outer


def measure_inline(meter: Meter, fn: Callable[..., T], *args: object) -> T:
    """Call `fn(*args)` on the event loop's thread, charging `meter` and not the meter around it."""
    outer = _charged[0]
    _charged[0] = meter
    before = thread_time_ns()
    try:
        return fn(*args)
    finally:
        used = thread_time_ns() - before
        meter.cpu_ns += used
        if outer is not None:
            outer.cpu_ns -= used
        _charged[0] = outer
