"""An event for a script's code, in either flavour, and an HTTP server for it to fetch from."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import trio
import trio.lowlevel
from hypercorn.config import Config
from hypercorn.trio import serve

from edge_runtime.event import EventContext, EventKind
from edge_runtime.isolate.asyncio_flavour import open_asyncio_flavour
from edge_runtime.isolate.trio_flavour import TrioFlavour
from edge_runtime.seams import Flavour
from edge_runtime.workers.http_net import HttpNet

App = Callable[[dict[str, Any], Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]


@asynccontextmanager
async def open_event(flavour_name: str = "trio", *, actor: Any = None) -> AsyncIterator[EventContext]:
    """One event with a network; finished at the end."""
    async with AsyncExitStack() as stack:
        nursery = await stack.enter_async_context(trio.open_nursery())
        flavour: Flavour = TrioFlavour()
        if flavour_name == "asyncio":
            flavour = await stack.enter_async_context(open_asyncio_flavour())
        net = await stack.enter_async_context(HttpNet())
        event = EventContext(EventKind.FETCH, "Default.fetch", nursery, flavour, actor)
        event.net = net
        yield event
        await event.finish()


@asynccontextmanager
async def open_server(app: App) -> AsyncIterator[str]:
    """Serve an ASGI app on a free port; gives its URL, without a slash at the end."""
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.accesslog = config.errorlog = None
    stop = trio.Event()

    async def with_lifespan(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return

    async with trio.open_nursery() as nursery:

        async def serve_app(task_status: trio.TaskStatus[list[str]]) -> None:
            await serve(with_lifespan, config, shutdown_trigger=stop.wait, task_status=task_status)

        urls = await nursery.start(serve_app)
        try:
            yield urls[0]
        finally:
            stop.set()
            with trio.CancelScope(deadline=trio.current_time() + 2):
                await trio.lowlevel.checkpoint()
