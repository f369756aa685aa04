"""Threads that scripts start by `trio.to_thread.run_sync`: their CPU time is charged to the event."""

from __future__ import annotations

import functools
from typing import Any, cast

import trio

from edge_runtime.metering.meter import user_meter
from edge_runtime.metering.threads import measure_call

_run_sync = trio.to_thread.run_sync


@functools.wraps(_run_sync)
async def _run_metered(sync_fn: Any, *args: Any, **options: Any) -> Any:
    meter = user_meter.get()
    if meter is None:
        return await _run_sync(sync_fn, *args, **options)
    return await _run_sync(measure_call, meter, sync_fn, *args, **options)


def meter_trio_threads() -> None:
    """Call before a script is imported, which may keep the function under a name of its own."""
    trio.to_thread.run_sync = cast(Any, _run_metered)
