"""Scripts of trio's flavour: they run in the task that delivers the event, at no cost."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


class TrioFlavour:
    """`seams.Flavour` for scripts that use trio, or nothing but our bindings."""

    name = "trio"

    def run(self, coro: Awaitable[T]) -> Awaitable[T]:
        return coro

    def begin(self, coro: object, meter: object) -> None:
        """A trio task takes no step before its turn."""
        return None
