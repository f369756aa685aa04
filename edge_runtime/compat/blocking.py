"""`run_sync`: wait for an awaitable from code that is not async; scripts know it as `pyodide.ffi.run_sync`.

On Cloudflare it suspends the whole Python stack. Here the caller is a thread of its own (WSGI apps,
`asyncio.to_thread`, `trio.to_thread`), which waits while the event loop goes on.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, TypeVar, cast

import trio

from edge_runtime.event import EventContext, current_event
from edge_runtime.promise import Promise

T = TypeVar("T")


def run_sync(awaitable: Awaitable[T]) -> T:
    """Wait for `awaitable` on the event loop and return its result; what it raises is raised here.

    Coroutines run in the script's flavour and are charged to the event of the calling thread.

    Raises:
        RuntimeError: on the event loop's own thread, for what is not there yet (await it instead), and in a thread
            that does not belong to an event.
    Cancellation: the event ending raises `trio.Cancelled` here; let it pass.
    """
    if isinstance(awaitable, Promise) and awaitable.settled:
        return cast(T, awaitable.result())
    if trio.lowlevel.in_trio_run():
        _dispose(awaitable)
        raise RuntimeError(
            "run_sync() was called on the event loop's thread for a result that is not there yet; await it, or call "
            "run_sync() from a WSGI app or from asyncio.to_thread()"
        )
    event = current_event.get()
    try:
        return cast(T, trio.from_thread.run(_wait, event, awaitable))
    except RuntimeError as error:
        if event is None and "wasn't created by Trio" in str(error):
            _dispose(awaitable)
            raise RuntimeError(
                "run_sync() was called in a thread that does not belong to an event; start it with asyncio.to_thread() "
                "or trio.to_thread.run_sync()"
            ) from None
        raise


async def _wait(event: EventContext | None, awaitable: Awaitable[Any]) -> Any:
    if event is None or isinstance(awaitable, Promise):
        return await awaitable
    return await event.run(lambda: awaitable)


def _dispose(awaitable: Awaitable[Any]) -> None:
    """Close a coroutine that nobody is going to await, so that Python does not warn of it as well."""
    close = getattr(awaitable, "close", None)
    if close is not None and not isinstance(awaitable, Promise):
        close()
