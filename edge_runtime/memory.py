"""Memory that a process no longer needs: what is remembered for speed only is forgotten, and free pages are given back.

An allocator gives memory back in large pieces, and only those in which nothing is left. So a few remembered results
that were made while much was in use, and lie spread over all of it, would keep the whole.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

_libc: Final = ctypes.CDLL(None)
_forget: Final[list[Callable[[], None]]] = []


def remembered(count: int, *, typed: bool = False) -> Callable[[F], F]:
    """`functools.lru_cache` of the last `count` results, until `give_back` is called."""

    def remember(fn: F) -> F:
        cached: Any = lru_cache(count, typed)(fn)
        _forget.append(cached.cache_clear)
        return cached  # type: ignore[no-any-return]

    return remember


def give_back() -> None:
    """Forget what is `remembered`, collect cycles, and return to the system what is free. Takes milliseconds."""
    for forget in _forget:
        forget()
    gc.collect()
    trim()


def trim() -> None:
    """Return malloc's free pages to the system, where malloc is glibc's."""
    if hasattr(_libc, "malloc_trim"):
        _libc.malloc_trim(0)
