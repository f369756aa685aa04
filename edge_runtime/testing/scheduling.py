"""Runs that are the same each time: a seeded scheduler and a clock that jumps."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import trio
from trio._core import _run as _scheduler
from trio.testing import MockClock

T = TypeVar("T")

_FLAG = "_ALLOW_DETERMINISTIC_SCHEDULING"


def run(async_fn: Callable[..., Awaitable[T]], *args: object, seed: int = 0, autojump: bool = True) -> T:
    """`trio.run` on a clock that jumps when every task waits, with the order of tasks decided by `seed` alone.

    Python's module `random` is seeded for the time of the run as well. Not to be called inside of a trio run. Without
    `autojump` the clock (`trio.lowlevel.current_clock()`) stands still until somebody makes it jump.
    """
    clock = MockClock(autojump_threshold=0) if autojump else MockClock()
    own = _own_randomness()
    states = own.getstate(), random.getstate()
    was = getattr(_scheduler, _FLAG)
    setattr(_scheduler, _FLAG, True)
    own.seed(seed)
    random.seed(seed)
    try:
        return trio.run(async_fn, *args, clock=clock)
    finally:
        setattr(_scheduler, _FLAG, was)
        own.setstate(states[0])
        random.setstate(states[1])


def _own_randomness() -> random.Random:
    """The source of the scheduler's choices. trio shuffles tasks on purpose and has a private flag for repeatable runs;
    RuntimeError if it is not there any more."""
    own: Any = getattr(_scheduler, "_r", None)
    if not isinstance(getattr(_scheduler, _FLAG, None), bool) or not isinstance(own, random.Random):
        raise RuntimeError(  # noqa: TRY004 - the library is wrong, not a type
            f"trio {trio.__version__} has no {_FLAG}, which makes its scheduler repeatable; allowed: trio 0.34, 0.35"
        )
    return own
