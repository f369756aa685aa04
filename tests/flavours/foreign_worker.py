"""Foreign apps as a worker would serve them, in each flavour."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple

import trio

from edge_runtime.event import EventContext, EventKind
from edge_runtime.isolate.asyncio_flavour import open_asyncio_flavour
from edge_runtime.isolate.trio_flavour import TrioFlavour
from edge_runtime.seams import Flavour
from edge_runtime.workers.request import Request
from edge_runtime.workers.response import Response


class Answer(NamedTuple):
    status: int
    headers: list[tuple[bytes, bytes]]
    pieces: list[bytes]
    """As they were handed over; one piece for a body that was whole at once."""

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)


class Worker:
    """A worker whose fetch handler hands requests to a foreign app."""

    def __init__(self, flavour: Flavour, nursery: trio.Nursery) -> None:
        self.flavour = flavour
        self._nursery = nursery

    def event(self) -> EventContext:
        return EventContext(EventKind.FETCH, "Default.fetch", self._nursery, self.flavour)

    async def sleep(self, seconds: float) -> None:
        """A sleep for apps, in the flavour's own way."""
        if self.flavour.name == "trio":
            await trio.sleep(seconds)
        else:
            import asyncio

            await asyncio.sleep(seconds)

    async def respond(self, event: EventContext, module: Any, app: Any, request: Any, env: object = None) -> Response:
        response = await event.run(lambda: module.fetch(app, request, env))
        assert isinstance(response, Response)
        return response

    async def fetch(
        self,
        module: Any,
        app: Any,
        url: str = "http://example.com/",
        *,
        method: str = "GET",
        headers: list[tuple[bytes, bytes]] | None = None,
        upload: list[bytes] | None = None,
        env: object = None,
    ) -> Answer:
        """One request from arrival to the end of its background work."""
        event = self.event()
        response = await self.respond(event, module, app, incoming(url, method, headers, upload), env)
        answer = await sent(response)
        await event.finish()
        assert event.failed_wait_until == []
        return answer


def incoming(
    url: str = "http://example.com/",
    method: str = "GET",
    headers: list[tuple[bytes, bytes]] | None = None,
    upload: list[bytes] | None = None,
) -> Request:
    """A request whose body arrives in the given pieces."""
    pieces = list(upload or [])

    async def receive() -> bytes | None:
        await trio.lowlevel.checkpoint()
        return pieces.pop(0) if pieces else None

    return Request._incoming(method, url, headers or [], receive if upload is not None else None)


async def sent(response: Response, write: Callable[[bytes], Awaitable[object]] | None = None) -> Answer:
    """Send a response as the isolate does; `write` stands for the client's connection."""
    pieces: list[bytes] = []

    async def keep(piece: bytes) -> None:
        pieces.append(piece)

    outgoing = response._outgoing()
    if isinstance(outgoing.body, bytes):
        pieces.append(outgoing.body)
    else:
        await outgoing.body.write_to(write or keep)
    return Answer(outgoing.status, outgoing.headers_with_length, pieces)


@asynccontextmanager
async def open_worker(flavour: str) -> AsyncIterator[Worker]:
    async with AsyncExitStack() as stack:
        opened: Flavour = TrioFlavour()
        if flavour == "asyncio":
            opened = await stack.enter_async_context(open_asyncio_flavour())
        async with trio.open_nursery() as nursery:
            yield Worker(opened, nursery)
            nursery.cancel_scope.cancel()
