"""A clock that stands still and an event to run KV calls in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from edge_runtime.event import EventContext, EventKind, current_event
from edge_runtime.isolate.trio_flavour import TrioFlavour


class StillClock:
    """Time passes when `advance` is called, and then sleepers whose time has come wake."""

    def __init__(self, now_ms: int = 1_800_000_000_000) -> None:
        self._now_ms = now_ms
        self._moved = trio.Event()
        self.sleeping_until_ms: int | None = None

    def now_ms(self) -> int:
        return self._now_ms

    def monotonic_s(self) -> float:
        return self._now_ms / 1000

    def advance(self, ms: int) -> None:
        self._now_ms += ms
        moved, self._moved = self._moved, trio.Event()
        moved.set()

    async def sleep_until_ms(self, due_ms: int) -> None:
        await trio.lowlevel.checkpoint()
        while self._now_ms < due_ms:
            self.sleeping_until_ms = due_ms
            await self._moved.wait()
        self.sleeping_until_ms = None


class FixedRandomness:
    def bytes(self, count: int) -> bytes:
        return bytes(count)

    def uuid(self) -> str:
        return "00000000-0000-4000-8000-000000000000"

    def ordered_id(self) -> str:
        return "00000000-0000-7000-8000-000000000000"


@asynccontextmanager
async def running_event() -> AsyncIterator[EventContext]:
    """Be inside a handler: `current_event` is set, and spawned work lives until the block ends."""
    async with trio.open_nursery() as nursery:
        event = EventContext(EventKind.FETCH, "Default.fetch", nursery, TrioFlavour())
        token = current_event.set(event)
        try:
            yield event
            await event.finish()
        finally:
            current_event.reset(token)
