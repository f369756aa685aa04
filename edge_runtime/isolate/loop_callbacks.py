"""What the event loop is given to call: a task's own callbacks, those of scripts, and the way back to trio.

A task's step and wake-up are recognised by type: the task carries its meter itself. Other callbacks, and calls in
threads, are charged to the event in whose context they were given.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Callable
from types import MethodType
from typing import Any, TypeVar

import trio

from edge_runtime.metering.measure import measure_inline
from edge_runtime.metering.meter import Meter, user_meter
from edge_runtime.metering.threads import measure_call

T = TypeVar("T")


class Crossing:
    """A done callback that resumes a trio task; the loop calls it at once instead of queueing it."""

    __slots__ = ("_asyncio_task", "_trio_task", "raise_cancel")

    def __init__(self, trio_task: trio.lowlevel.Task, asyncio_task: asyncio.Task[Any]) -> None:
        self._trio_task = trio_task
        self._asyncio_task = asyncio_task
        self.raise_cancel: Callable[[], Any] | None = None
        """Set when trio has cancelled the waiting task: raises its `trio.Cancelled`."""

    def __call__(self, _: object) -> None:
        trio.lowlevel.reschedule(self._trio_task)

    def abort(self, raise_cancel: Callable[[], Any]) -> trio.lowlevel.Abort:
        """Pass trio's cancellation on to the asyncio task, and go on waiting for what it makes of it."""
        self.raise_cancel = raise_cancel
        self._asyncio_task.cancel()
        return trio.lowlevel.Abort.FAILED


class _Probe:
    """As much of an event loop as a task needs to show what it hands to `call_soon`."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> None:
        self.seen.append(callback)

    def get_debug(self) -> bool:
        return False


def _callback_types() -> tuple[type, type]:
    """The types of a task's step and of its wake-up as it hands them to `call_soon`."""
    probe = _Probe()
    loop: Any = probe
    future: asyncio.Future[None] = asyncio.Future(loop=loop)

    async def wait() -> None:
        await future

    task = asyncio.Task(wait(), loop=loop)
    probe.seen[0]()
    future.set_result(None)
    probe.seen[1](future)
    assert task.done()
    types = type(probe.seen[0]), type(probe.seen[1])
    if MethodType in types:
        raise RuntimeError("asyncio's tasks must be those of its C module; this interpreter has only the Python ones")
    return types


TASK_STEP, TASK_WAKEUP = _callback_types()


def charged_in(context: contextvars.Context | None) -> Meter | None:
    """Whom code is charged to that is to run in a context: to the event that it is of, or else to the one that gives
    it; the context tells whatever that code starts."""
    meter = user_meter.get()
    if context is None:
        return meter
    given = context.get(user_meter)
    if given is None and meter is not None:
        context.run(user_meter.set, meter)
        return meter
    return given


def metered(callback: Callable[..., object], context: contextvars.Context | None) -> Callable[..., object]:
    meter = charged_in(context)
    if meter is None:
        return callback
    meter.shared = True
    return functools.partial(measure_inline, meter, callback)


def measured(call: Callable[[], T]) -> Callable[[], T]:
    meter = user_meter.get()
    return call if meter is None else functools.partial(measure_call, meter, call)
