"""CPU time of user code, and of nothing else.

A `Meter` is charged for every stretch between the resumption of a script's coroutine and its next suspension, read
from the kernel's per-thread CPU clock; waiting costs nothing. `MeteredCoroutine` does that around a coroutine,
`ChildTaskMeter` extends it to tasks that the script starts in nurseries of its own, `measure_call` to calls in worker
threads. Nested measurement is exclusive: what an inner meter is charged, the outer one is not.

What runs on the event loop's thread right now is shown on a page that others can read while it runs (`running`):
whoever stops an event that has used more than its limit looks there.
"""

from __future__ import annotations

import contextvars
import ctypes
import sys
import threading
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Generator
from time import clock_gettime_ns, monotonic_ns, pthread_getcpuclockid, thread_time_ns
from types import CoroutineType, coroutine
from typing import Any, Final, TypeVar
from weakref import ref

import trio
from trio._core._asyncgens import AsyncGenerators

from edge_runtime import forked
from edge_runtime.errors import CpuLimitExceeded

T = TypeVar("T")

NO_LIMIT_NS: Final = 2**62
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


class Meter:
    """What one event used. Times are nanoseconds here and microseconds wherever they leave this package."""

    __slots__ = (
        "charged_ns",
        "cpu_ns",
        "label",
        "limit_ns",
        "quantities",
        "shared",
        "started_ns",
        "stop_ns",
        "subrequests",
    )

    def __init__(self, limit_ns: int = NO_LIMIT_NS, label: int = 0) -> None:
        self.cpu_ns = 0
        self.charged_ns = 0
        """How much of it is in the ledger."""
        self.limit_ns = limit_ns
        self.stop_ns = limit_ns
        """Where the next soft stop is due: the limit at first, and a little more after each."""
        self.label = label
        """Whose it is, for those who read the page."""
        self.shared = False
        """Tasks or threads of the script may be charged to it beyond the event's end."""
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
_page = memoryview(bytearray(PAGE_BYTES)).cast("q")
_attributed: Final = [0, 0]
"""Nanoseconds charged to any meter: of the event loop's thread, and of other threads."""


BACKGROUND: Final = Meter()
"""What a script does outside of all events: threads from its import, processes nobody waits for."""
OVERHEAD: Final = Meter()
"""What the runtime's own threads use, the event loop's left out."""


def show_running_on(page: memoryview) -> None:
    """Keep DEADLINE and LABEL up to date on this page from now on; its items are signed and 8 bytes long."""
    global _page
    _page = page


def attributed_ns() -> tuple[int, int]:
    """What has been charged to any meter so far: of the event loop's thread, and of other threads."""
    return _attributed[0], _attributed[1]


def running() -> tuple[Meter, int] | None:
    """The meter whose code runs on the event loop's thread, which must be the caller's, and what it has used by now."""
    meter = _charged[0]
    if meter is None:
        return None
    return meter, meter.limit_ns - (_page[DEADLINE] - thread_time_ns())


class MeteredCoroutine(Coroutine[Any, Any, T]):
    """A coroutine that charges its running time to a meter, and is stopped when that is over its limit.

    Sets no context: wrap the call that creates tasks in a context where `user_meter` is set.
    """

    __slots__ = (
        "__weakref__",
        "_coro",
        "_meter",
        "_send",
        "_throw",
        "charged_ns",
    )

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
    outer, page = _charged[0], _page
    _charged[0] = meter
    outer_deadline = page[DEADLINE]
    page[LABEL] = meter.label
    before = thread_time_ns()
    page[DEADLINE] = before + meter.limit_ns - meter.cpu_ns
    return outer, outer_deadline, before


def _end(meter: Meter, begun: tuple[Meter | None, int, int]) -> None:
    if forked.is_stray:
        forked.end_stray()
    outer, outer_deadline, before = begun
    used = thread_time_ns() - before
    meter.cpu_ns += used
    _charged[0] = outer
    if outer is None:
        _page[DEADLINE] = 0
        _attributed[0] += used
    else:
        outer.cpu_ns -= used
        _page[LABEL] = outer.label
        _page[DEADLINE] = outer_deadline + used


_DYING_MAX: Final = 1024
_FINALIZE: Final = AsyncGenerators._finalize_one.__code__


def unmetered(fn: Callable[[], None]) -> None:
    """Call `fn()` on the event loop's thread for the runtime, in the midst of code that is being charged, which is not
    charged for it."""
    outer, page = _charged[0], _page
    if outer is None:
        fn()
        return
    deadline = page[DEADLINE]
    _charged[0] = None
    page[DEADLINE] = 0
    before = thread_time_ns()
    try:
        fn()
    finally:
        used = thread_time_ns() - before
        outer.cpu_ns -= used
        _attributed[0] -= used
        _charged[0] = outer
        page[LABEL] = outer.label
        page[DEADLINE] = deadline + used


class ChildTaskMeter(trio.abc.Instrument):
    """Charges tasks that user code starts to the meter of the event they were started in.

    Only the spawning of tasks is observed, so tasks of the runtime pay nothing per step.
    """

    def __init__(self) -> None:
        self._generators = _Generators()

    def before_run(self) -> None:
        hooks = sys.get_asyncgen_hooks()

        def first_iterated(generator: Any) -> None:
            meter = user_meter.get()
            if meter is not None:
                meter.shared = True
                self._generators.add(generator, meter)
            if hooks.firstiter is not None:
                hooks.firstiter(generator)

        sys.set_asyncgen_hooks(firstiter=first_iterated)

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        meter = task.context.get(user_meter)
        if meter is None and getattr(task.coro, "cr_code", None) is _FINALIZE and task.coro.cr_frame is not None:
            meter = self._generators.ended(task.coro.cr_frame.f_locals["agen"])
        if meter is not None:
            meter.shared = True
            task.coro = MeteredCoroutine(task.coro, meter)  # type: ignore[assignment]


class _Owned(ref[Any]):
    __slots__ = ("charged_ns", "meter", "number")

    meter: Meter
    number: int


class _Generators:
    """Whose each async generator is. trio ends those that were left behind in a task of its own, and their code runs
    then; weak references to a generator are gone before, so their going is what is remembered."""

    def __init__(self) -> None:
        self._living: set[_Owned] = set()
        self._dying: dict[int, Meter] = {}

    def add(self, generator: Any, meter: Meter) -> None:
        owned = _Owned(generator, self._gone)
        owned.meter, owned.number = meter, id(generator)
        self._dying.pop(owned.number, None)
        self._living.add(owned)

    def _gone(self, owned: ref[Any]) -> None:
        assert isinstance(owned, _Owned), "the references of `add`"
        self._living.discard(owned)
        if len(self._dying) >= _DYING_MAX:
            self._dying.clear()  # nearly all had come to their end by themselves
        self._dying[owned.number] = owned.meter

    def ended(self, generator: Any) -> Meter | None:
        return self._dying.pop(id(generator), None)


def stop_of(meter: Meter, used_ns: int) -> CpuLimitExceeded:
    """What is to be raised in code that has used `used_ns`; the next stop is due a little later."""
    over_ns = used_ns - meter.limit_ns
    if over_ns > _STUCK_NS:
        _page[STUCK_LABEL] = meter.label + 1
        _page[STUCK_NS] = used_ns - meter.charged_ns
    meter.stop_ns = used_ns + _STOP_AGAIN_NS
    return CpuLimitExceeded()


# Other threads


class _Call:
    """A measured call in a thread. `since_ns`: up to where the thread's CPU clock is charged, while it is innermost."""

    __slots__ = ("charged_ns", "meter", "outer", "since_ns")

    def __init__(self, meter: Meter, outer: _Call | None, since_ns: int) -> None:
        self.meter = meter
        self.outer = outer
        self.since_ns = since_ns

    def charge(self, now_ns: int) -> None:
        used = now_ns - self.since_ns
        self.since_ns = now_ns
        self.meter.cpu_ns += used
        _attributed[1] += used


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
