"""The first step of a script's coroutine on the asyncio loop, taken without a task.

A handler that awaits nothing, or only what our bindings settle at once, is over with its first step; making a task for
it would cost as much as the handler. So the coroutine is stepped by itself, and becomes a task when it has to wait, or
when code inside its first step asks for the current task (`asyncio.timeout`, task groups and anyio do): that one is
then the task that goes on with it.

asyncio has no place for a task that is made when asked for, so its two registers of tasks are replaced by ones that
know of it. All of its functions that ask for tasks go through them, wherever they were imported from.
"""

from __future__ import annotations

import _asyncio
import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Generator, Iterator
from types import coroutine
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import sniffio

if TYPE_CHECKING:
    from edge_runtime.isolate.script_loop import ScriptLoop

T = TypeVar("T")

_current: dict[Any, asyncio.Task[Any]] = _asyncio._current_tasks  # type: ignore[attr-defined]
"""The loop's task whose step is running; kept by asyncio's C code."""


class FirstStep(Generic[T]):
    """Takes the first step of `coro`; `context` must be the current one."""

    __slots__ = ("_begin_task", "_context", "_coro", "_ended", "_error", "_loop", "_task", "_yielded", "value")

    def __init__(self, coro: Coroutine[Any, Any, T], loop: ScriptLoop, context: contextvars.Context) -> None:
        self._coro = coro
        self._loop = loop
        self._context = context
        self._task: asyncio.Task[T] | None = None

    def take(self) -> asyncio.Task[T] | None:
        """The task that has become of it, perhaps done already; None: it is over and returned `value`.

        Raises what the coroutine raises, unless a task was asked for: then the task has the error.
        """
        loop, local = self._loop, sniffio.thread_local
        outer_name, local.name = local.name, "asyncio"
        outer_step, loop.first_step = loop.first_step, self
        outer_task = _current.pop(loop, None)
        self._ended = True
        self._error = None
        try:
            try:
                self._yielded = self._coro.send(None)
                self._ended = False
            except StopIteration as stop:
                self.value = stop.value
                if self._task is None:
                    return None
            except BaseException as error:
                if self._task is None:
                    raise
                self._error = error
            loop.first_step = None
            return self._begun()
        finally:
            loop.first_step = outer_step
            if outer_task is not None:
                _current[loop] = outer_task
            local.name = outer_name

    def task(self) -> asyncio.Task[T]:
        """The task that goes on with the coroutine; made at the first call."""
        if self._task is None:
            rest = _rest(self, self._coro)
            rest.send(None)
            self._task, self._begin_task = self._loop.make_task(rest, self._context)
        return self._task

    def _begun(self) -> asyncio.Task[T]:
        """The task, after a step of its own with which it learns how far the coroutine has come."""
        task = self.task()
        try:
            self._begin_task()
        except (SystemExit, KeyboardInterrupt):
            if not task.done():
                raise
        self._error = None  # the task has it; its traceback holds this object
        try:
            return task
        finally:
            del task


@coroutine
def _rest(first: FirstStep[T], coro: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
    """What a task runs of a coroutine whose first step was taken before the task's own."""
    cancellation: BaseException | None = None
    try:
        yield  # until that step is over; a task may be cancelled meanwhile
    except asyncio.CancelledError as error:
        cancellation = error
    if first._ended:
        if first._error is not None:
            raise first._error
        if cancellation is not None:
            raise cancellation
        return cast(T, first.value)
    yielded = first._yielded
    if cancellation is not None and hasattr(yielded, "cancel") and yielded.cancel(*cancellation.args):
        cancellation = None
    del first
    while True:
        step: Callable[[Any], Any] = coro.send
        argument: Any = None
        try:
            argument = yield yielded
        except GeneratorExit:
            coro.close()
            raise
        except BaseException as error:
            step, argument = coro.throw, error
        if cancellation is not None:
            step, argument, cancellation = coro.throw, cancellation, None
        try:
            yielded = step(argument)
        except StopIteration as stop:
            return cast(T, stop.value)
        finally:
            del step, argument  # an error's traceback holds this frame


def _task_of_first_step(loop: object) -> asyncio.Task[Any] | None:
    # Threads of the script run no code of this loop.
    first: FirstStep[Any] | None = getattr(loop, "first_step", None)
    return None if first is None or sniffio.thread_local.name != "asyncio" else first.task()


class _CurrentTasks:
    """`asyncio.tasks._current_tasks`, as far as Python code reads it."""

    def get(self, loop: Any, default: Any = None) -> Any:
        return _current.get(loop) or _task_of_first_step(loop) or default

    def __getattr__(self, name: str) -> Any:
        return getattr(_current, name)


class _AllTasks:
    """`asyncio.tasks._all_tasks`, as far as Python code reads it."""

    def __init__(self, tasks: Any) -> None:
        self._tasks = tasks

    def __iter__(self) -> Iterator[asyncio.Task[Any]]:
        _task_of_first_step(asyncio._get_running_loop())
        return iter(self._tasks)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tasks, name)


def _register_first_steps() -> None:
    tasks: Any = asyncio.tasks
    if tasks._current_tasks is not _current or tasks._all_tasks is not _asyncio._all_tasks:  # type: ignore[attr-defined]
        raise RuntimeError("asyncio keeps its tasks otherwise than in CPython 3.11, which this runtime is written for")
    tasks._current_tasks = _CurrentTasks()
    tasks._all_tasks = _AllTasks(tasks._all_tasks)


_register_first_steps()
