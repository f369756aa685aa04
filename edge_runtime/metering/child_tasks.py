"""Tasks and generators that a script starts are charged to the event that started them."""

from __future__ import annotations

import sys
from typing import Any, Final
from weakref import ref

import trio
from trio._core._asyncgens import AsyncGenerators

from edge_runtime.metering.loop_thread import begin_wait, end_wait, forget_clock
from edge_runtime.metering.measure import metered_call
from edge_runtime.metering.meter import Meter, user_meter

_DYING_MAX: Final = 1024
_FINALIZE: Final = AsyncGenerators._finalize_one.__code__


class ChildTaskMeter(trio.abc.Instrument):
    """Charges tasks that user code starts to the meter of the event they were started in.

    Only the spawning of tasks is observed, and when the loop waits: tasks of the runtime pay nothing per step.
    """

    def __init__(self) -> None:
        self._generators = _Generators()

    def before_run(self) -> None:
        forget_clock()
        hooks = sys.get_asyncgen_hooks()

        def first_iterated(generator: Any) -> None:
            meter = user_meter.get()
            if meter is not None:
                meter.shared = True
                self._generators.add(generator, meter)
            if hooks.firstiter is not None:
                hooks.firstiter(generator)

        sys.set_asyncgen_hooks(firstiter=first_iterated)

    def before_io_wait(self, timeout: float) -> None:
        if timeout > 0:
            begin_wait()

    def after_io_wait(self, timeout: float) -> None:
        if timeout > 0:
            end_wait()

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        meter = task.context.get(user_meter)
        if meter is None and getattr(task.coro, "cr_code", None) is _FINALIZE and task.coro.cr_frame is not None:
            meter = self._generators.ended(task.coro.cr_frame.f_locals["agen"])
            task.context.run(user_meter.set, meter)
        if meter is not None:
            meter.shared = True
            task.coro = metered_call(meter, _same, (task.coro,))  # type: ignore[assignment]


def _same(coro: object) -> object:
    return coro


class _Owned(ref[Any]):
    __slots__ = ("meter", "number")

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
