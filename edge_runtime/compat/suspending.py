"""Sync code of a script on a stack of its own, which `run_sync` puts aside while the event loop goes on.

On Cloudflare every handler runs so. Here it is sync methods of Durable Objects: a stack for each step of async code
would cost more than the step, and async code can await.
"""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable, Callable
from typing import Any

from greenlet import getcurrent, greenlet


class _Stack(greenlet):  # type: ignore[misc]
    """One call. It gives control back with what it waits for, or at its end with its result."""


def suspended(awaitable: Awaitable[Any]) -> tuple[Any, bool]:
    """Wait on a stack of ours: (the result, True), or (None, False) if this is none."""
    stack = getcurrent()
    if not isinstance(stack, _Stack):
        return None, False
    parent = stack.parent
    assert parent is not None
    return parent.switch(awaitable), True


def call_suspending(fn: Callable[..., Any], *args: Any) -> Any:
    """Call `fn`. Where it waits by `run_sync`, a coroutine of its result is returned."""
    stack = _Stack(fn)
    stack.gr_context = contextvars.copy_context()
    given = stack.switch(*args)
    return given if stack.dead else _go_on(stack, given)


async def _go_on(stack: _Stack, awaitable: Any) -> Any:
    while True:
        try:
            result = await awaitable
        except BaseException as error:
            stack.parent = getcurrent()
            given = stack.throw(error)
        else:
            stack.parent = getcurrent()
            given = stack.switch(result)
        if stack.dead:
            return await given if isinstance(given, Awaitable) else given
        awaitable = given
