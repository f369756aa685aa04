"""Coroutines of an object's code that are resumed only while its input gate is open."""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable, Callable, Coroutine, Generator
from types import CoroutineType
from typing import Any, TypeVar

import sniffio
import trio

from edge_runtime.actors.gates import InputGate
from edge_runtime.promise import Promise

T = TypeVar("T")

gate_inside: contextvars.ContextVar[InputGate | None] = contextvars.ContextVar("gate_inside", default=None)
"""The critical section that the running code is part of; None outside of one."""


def call_gated(gate: InputGate, fn: Callable[..., Any], *args: object) -> Any:
    """Call a script's function; if it is async, what it awaits is delivered to it through the gate."""
    result = fn(*args)
    if type(result) is CoroutineType or (isinstance(result, Awaitable) and not isinstance(result, Promise)):
        return GatedCoroutine(result, gate)
    return result


class GatedCoroutine(Coroutine[Any, Any, T]):
    """Holds back the results of what the coroutine awaits while a critical section runs.

    So answers of fetches and firings of sleeps do not enter the object then, as on Cloudflare. Under trio the wait
    is shielded, for a result that has come must not be lost to a cancellation; the gate opens within 30 s or breaks.
    """

    __slots__ = ("__weakref__", "_coro", "_gate", "_held", "_wait")

    def __init__(self, work: Awaitable[T], gate: InputGate) -> None:
        self._coro: Any = work if type(work) is CoroutineType or isinstance(work, Coroutine) else _await(work)
        self._gate = gate
        self._wait: Generator[Any, Any, None] | None = None
        self._held: Any = None

    def send(self, value: Any) -> Any:
        if self._wait is None:
            if self._gate.open:
                return self._coro.send(value)
            self._held = value
            self._wait = _wait_open(self._gate)
            value = None
        try:
            return self._wait.send(value)
        except StopIteration:
            self._wait = None
            held, self._held = self._held, None
        return self._coro.send(held)

    def throw(self, typ: Any, val: Any = None, tb: Any = None) -> Any:
        if self._wait is not None:
            self._wait.close()
            self._wait = self._held = None
        return self._coro.throw(typ)

    def close(self) -> None:
        if self._wait is not None:
            self._wait.close()
        self._coro.close()

    def __await__(self) -> Generator[Any, Any, T]:
        return self

    def __iter__(self) -> GatedCoroutine[T]:
        return self

    def __next__(self) -> Any:
        return self.send(None)

    def __getattr__(self, name: str) -> Any:
        # trio and traceback tools look at cr_frame, cr_code and __qualname__ of a task's coroutine.
        return getattr(self._coro, name)


def _wait_open(gate: InputGate) -> Generator[Any, Any, None]:
    """Return when the gate is open or broken; a broken one lets the code run to its end, cut off from storage."""
    while not gate.open:
        promise = gate.wait_open()
        if promise.settled:
            return
        wait = _settled if sniffio.thread_local.name == "asyncio" else _settled_shielded
        yield from wait(promise).__await__()


async def _settled(promise: Promise[None]) -> None:
    try:
        await promise
    except Exception:
        # The gate broke: there is nothing to wait for any more, and the activation is being cancelled.
        return


async def _settled_shielded(promise: Promise[None]) -> None:
    task = trio.lowlevel.current_task()
    promise.add_done_callback(lambda _: trio.lowlevel.reschedule(task))
    await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)


async def _await(work: Awaitable[T]) -> T:
    return await work
