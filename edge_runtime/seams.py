"""What the outside world is to this runtime: clock, randomness, threads. Simulation replaces these.

Each is a small protocol with its real implementation beside it. Code below `isolate` receives them as
arguments and never imports `time`, `random`, `secrets` or `threading` for their effects.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol, TypeVar

import trio
import uuid_utils

from edge_runtime.metering.meter import Meter
from edge_runtime.promise import Promise

T = TypeVar("T")


class Clock(Protocol):
    """Wall time for what is stored, monotonic time for what is awaited."""

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch."""

    def monotonic_s(self) -> float:
        """Seconds that never step back; meaningful only as differences."""

    async def sleep_until_ms(self, due_ms: int) -> None:
        """Return once `now_ms() >= due_ms`, also if the wall clock was set meanwhile. A checkpoint."""


class Randomness(Protocol):
    def bytes(self, count: int) -> bytes:
        """Unpredictable bytes."""

    def uuid(self) -> str:
        """A random UUID, version 4, in its canonical text form."""

    def ordered_id(self) -> str:
        """A UUID, version 7: later ids of one process sort after earlier ones."""


class Offload(Protocol):
    """Blocking work, away from the event loop."""

    async def __call__(self, fn: Callable[..., T], /, *args: object) -> T:
        """Run `fn(*args)` in a thread with a copy of the caller's context.

        Cancellation waits for the thread: a result is never produced behind the caller's back.
        """


class Flavour(Protocol):
    """How a script's coroutines are driven: trio's way or asyncio's."""

    name: str

    def run(self, coro: Awaitable[T]) -> Awaitable[T]:
        """Drive a script's coroutine to its end from a trio task; cancelling this cancels the coroutine."""

    def begin(self, coro: Coroutine[Any, Any, T], meter: Meter) -> Promise[T] | None:
        """Begin a script's coroutine beside the one that runs, its first step taken now and in a context of its own.

        Its steps are charged to `meter`. None, and nothing done, where that cannot be: then `run` it in another trio
        task. The promise is `owned_by` what cancels the coroutine.
        """


class SystemClock:
    """The machine's clocks. Sleeps are cut into pieces so that a changed wall clock is noticed."""

    _PIECE_S = 60.0

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        return time.monotonic()

    async def sleep_until_ms(self, due_ms: int) -> None:
        await trio.lowlevel.checkpoint()
        while (left_s := (due_ms - self.now_ms()) / 1000) > 0:
            await trio.sleep(min(left_s, self._PIECE_S))


class SystemRandomness:
    def bytes(self, count: int) -> bytes:
        return os.urandom(count)

    def uuid(self) -> str:
        return str(uuid_utils.uuid4())

    def ordered_id(self) -> str:
        return str(uuid_utils.uuid7())


class ThreadOffload:
    """Threads of trio's cache, at most `capacity` at a time."""

    def __init__(self, capacity: int) -> None:
        self._limiter = trio.CapacityLimiter(capacity)

    async def __call__(self, fn: Callable[..., T], /, *args: object) -> T:
        return await trio.to_thread.run_sync(fn, *args, limiter=self._limiter)
