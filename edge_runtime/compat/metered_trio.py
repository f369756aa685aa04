"""What scripts start by `trio.to_thread.run_sync` and by `trio.lowlevel.spawn_system_task` is charged to the event."""

from __future__ import annotations

import contextvars
import functools
import logging
from typing import Any, Final, cast

import trio

from edge_runtime.errors import CpuLimitExceeded
from edge_runtime.metering.meter import user_meter
from edge_runtime.metering.threads import measure_call

_log: Final = logging.getLogger("edge.isolate")
_run_sync = trio.to_thread.run_sync
_spawn_system_task = trio.lowlevel.spawn_system_task


@functools.wraps(_run_sync)
async def _run_metered(sync_fn: Any, *args: Any, **options: Any) -> Any:
    meter = user_meter.get()
    if meter is None:
        return await _run_sync(sync_fn, *args, **options)
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


def meter_trio() -> None:
    """Call before a script is imported, which may keep the functions under names of its own."""
    trio.to_thread.run_sync = cast(Any, _run_metered)
    trio.lowlevel.spawn_system_task = cast(Any, _spawn_metered)
