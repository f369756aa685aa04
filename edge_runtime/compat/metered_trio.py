"""What scripts give trio to run outside of their own tasks is charged to the event: calls in threads, system tasks, and
calls that threads, or anybody, want made on the event loop's thread."""

from __future__ import annotations

import contextvars
import functools
import logging
import threading
from typing import Any, Final, cast

import trio

from edge_runtime.errors import CpuLimitExceeded
from edge_runtime.metering.measure import measure_inline
from edge_runtime.metering.meter import Meter, user_meter
from edge_runtime.metering.threads import check_may_begin, measure_call

_log: Final = logging.getLogger("edge.isolate")
_run_sync = trio.to_thread.run_sync
_spawn_system_task = trio.lowlevel.spawn_system_task
_run_sync_soon = trio.lowlevel.TrioToken.run_sync_soon


@functools.wraps(_run_sync)
async def _run_metered(sync_fn: Any, *args: Any, **options: Any) -> Any:
    meter = user_meter.get()
    if meter is None:
        return await _run_sync(sync_fn, *args, **options)
    check_may_begin(meter)
    return await _run_sync(measure_call, meter, sync_fn, *args, **options)


@functools.wraps(_spawn_system_task)
def _spawn_metered(
    async_fn: Any, *args: Any, name: object = None, context: contextvars.Context | None = None
) -> trio.lowlevel.Task:
    meter = user_meter.get()
    if context is None and meter is not None:
        context = contextvars.Context()
        context.run(user_meter.set, meter)  # what is spawned in such a context is charged
    return _spawn_system_task(_until_stopped, async_fn, *args, name=name or async_fn, context=context)


async def _until_stopped(async_fn: Any, *args: Any) -> None:
    try:
        await async_fn(*args)
    except CpuLimitExceeded:
        # trio would end the isolate, and with it all that is not charged yet.
        _log.error("a system task of the script was stopped: its event used more than limits.cpu_ms of CPU")


@functools.wraps(_run_sync_soon)
def _run_metered_soon(self: trio.lowlevel.TrioToken, sync_fn: Any, *args: Any, idempotent: bool = False) -> None:
    meter = user_meter.get()
    if meter is None:
        return _run_sync_soon(self, sync_fn, *args, idempotent=idempotent)
    meter.shared = True
    # In this order calls that are equal, of which trio leaves out all but one, are still equal.
    return _run_sync_soon(self, _call_until_stopped, meter, sync_fn, *args, idempotent=idempotent)


def _call_until_stopped(meter: Meter, sync_fn: Any, *args: Any) -> None:
    if threading.current_thread() is not threading.main_thread():
        sync_fn(*args)  # in a run of trio of the script's own; the thread is measured as a whole
        return
    try:
        measure_inline(meter, sync_fn, *args)
    except CpuLimitExceeded:
        _log.error("a call that a script gave to trio was stopped: its event used more than limits.cpu_ms of CPU")


def meter_trio() -> None:
    """Call before a script is imported, which may keep the functions under names of its own."""
    trio.to_thread.run_sync = cast(Any, _run_metered)
    trio.lowlevel.spawn_system_task = cast(Any, _spawn_metered)
    trio.lowlevel.TrioToken.run_sync_soon = _run_metered_soon  # type: ignore[method-assign, assignment]
