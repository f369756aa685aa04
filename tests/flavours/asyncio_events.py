"""An event on an open asyncio flavour, and work to charge it for."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from edge_runtime.event import EventContext, EventKind
from edge_runtime.isolate.asyncio_flavour import open_asyncio_flavour


@asynccontextmanager
async def an_event() -> AsyncIterator[EventContext]:
    async with open_asyncio_flavour() as flavour, trio.open_nursery() as nursery:
        yield EventContext(EventKind.FETCH, "Default.fetch", nursery, flavour)
        nursery.cancel_scope.cancel()


def burn(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
