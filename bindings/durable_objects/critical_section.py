"""The code of an object that runs with all other events held back: `blockConcurrencyWhile`, and transactions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import trio

from bindings.durable_objects.gated import call_gated, gate_inside
from edge_runtime.actors.api import ActorContext
from edge_runtime.actors.gates import CriticalSection
from edge_runtime.errors import ActorBroken
from edge_runtime.event import EventContext
from edge_runtime.limits import BLOCK_CONCURRENCY_MS
from edge_runtime.promise import Promise
from edge_runtime.workers.entrypoints import DurableObjectAbort
from edge_runtime.workers.remote_errors import seen_by_caller

BLOCKED_TOO_LONG: Final = (
    "A call to blockConcurrencyWhile() in a Durable Object waited for too long. The call was canceled and the Durable "
    "Object was reset."
)


async def run_section(
    context: ActorContext,
    event: EventContext,
    entered: Promise[CriticalSection],
    callback: Callable[[], Any],
    scopes: list[trio.CancelScope],
) -> Any:
    """Call `callback()` once the section is entered. If it fails, or takes too long, the object is reset.

    Whoever ends the activation cancels the `scopes`, which have that of the callback while it runs.
    """
    section = await entered
    try:
        with trio.move_on_after(BLOCK_CONCURRENCY_MS / 1000) as limit:
            scopes.append(limit)
            try:
                gate_inside.set(section)
                return await event.run(call_gated, section, callback)
            finally:
                scopes.remove(limit)
        too_long = ActorBroken(BLOCKED_TOO_LONG, retryable=False, overloaded=True)
        context.abort(too_long)
        raise too_long
    except trio.Cancelled:
        raise
    except DurableObjectAbort as abort:
        raise ActorBroken(str(abort), retryable=False) from None
    except BaseException as error:
        if isinstance(error, BaseExceptionGroup) and error.subgroup(trio.Cancelled) is not None:
            raise
        seen = seen_by_caller(error)
        seen.__cause__ = error
        context.abort(seen)
        raise
    finally:
        section.leave()
