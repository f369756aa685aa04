"""`run_sync`: wait for an awaitable from code that is not async; scripts know it as `pyodide.ffi.run_sync`.

On Cloudflare it suspends the whole Python stack, as it does here in sync methods of Durable Objects (`suspending`).
Otherwise the caller is a thread of its own (WSGI apps, `asyncio.to_thread`, `trio.to_thread`), which waits while the
event loop goes on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, TypeVar, cast

import trio

from edge_runtime.compat.suspending import suspended
from edge_runtime.event import EventContext, current_event
from edge_runtime.promise import Promise

T = TypeVar("T")

_loop: ContextVar[trio.lowlevel.TrioToken | None] = ContextVar("edge_loop", default=None)


def enter_loop() -> trio.lowlevel.TrioToken:
    """Make threads that a foreign app starts from this context (asgiref does) able to come back to this event loop."""
    token = trio.lowlevel.current_trio_token()
    _loop.set(token)
    return token


def on_loop(fn: Callable[..., Awaitable[T]], *args: object) -> T:
    """Run the trio function `fn` on the event loop and wait for it, from any thread that it knows of.

    RuntimeError on the event loop's own thread and in threads that began outside of an event. In trio's own threads,
    cancellation of the task that waits for the thread is raised here as `trio.Cancelled`.
    """
    if trio.lowlevel.in_trio_run():
        raise RuntimeError(
            "run_sync() was called on the event loop's thread for a result that is not there yet; await it, or call "
            "run_sync() from a WSGI app or from asyncio.to_thread()"
        )
    try:
        trio.from_thread.check_cancelled()
        token = None
    except RuntimeError:
        token = _loop.get()
        if token is None:
            raise RuntimeError(
                "run_sync() was called in a thread that does not belong to an event; start it with "
                "asyncio.to_thread() or trio.to_thread.run_sync()"
            ) from None
    return trio.from_thread.run(fn, *args, trio_token=token)


def run_sync(awaitable: Awaitable[T]) -> T:
    """Wait for `awaitable` on the event loop and return its result; what it raises is raised here.

    In a sync method of a Durable Object other events run meanwhile, as while an async one awaits. Coroutines run in the
    script's flavour and are charged to the event of the calling thread.

    Raises:
        RuntimeError: elsewhere on the event loop's own thread, for what is not there yet (await it instead), and in a
            thread that does not belong to an event.
    Cancellation: the event ending raises `trio.Cancelled` here; let it pass.
    """
    if isinstance(awaitable, Promise) and awaitable.settled:
        return cast(T, awaitable.result())
    result, waited = suspended(awaitable)
    if waited:
        return cast(T, result)
    begun = False

    async def wait(event: EventContext | None) -> Any:
        nonlocal begun
        begun = True
        if event is None or isinstance(awaitable, Promise):
            return await awaitable
        return await event.run(lambda: awaitable)

    try:
        return cast(T, on_loop(wait, current_event.get()))
    finally:
        if not begun and not isinstance(awaitable, Promise) and (close := getattr(awaitable, "close", None)):
            close()  # nobody is going to await this coroutine, and Python need not warn of it as well
