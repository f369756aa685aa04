"""Threads that apps start through anyio: plain `def` routes of FastAPI and Starlette run in them.

Their CPU time is charged to the event. Under asyncio, anyio keeps its threads until the task at the root of the loop
ends, as `asyncio.run` has one; here every event is a root, so each `def` route would start a thread of its own (more
than the route itself costs) if the loop were not named as the root instead.
"""

from __future__ import annotations

import asyncio
import functools
import sys
from typing import Any
from weakref import WeakSet

import sniffio

from edge_runtime.metering.meter import user_meter
from edge_runtime.metering.threads import check_may_begin, measure_call

_adjusted: WeakSet[Any] = WeakSet()
"""What has been seen to: the module `anyio.to_thread`, and event loops."""


def adjust_anyio() -> None:
    """Call before running an app. Does nothing as long as anyio has not been imported."""
    to_thread = sys.modules.get("anyio.to_thread")
    if to_thread is None:
        return
    if to_thread not in _adjusted:
        _adjusted.add(to_thread)
        to_thread.run_sync = _metered(to_thread.run_sync)  # type: ignore[attr-defined]
    if sniffio.thread_local.name == "asyncio":
        backend = sys.modules.get("anyio._backends._asyncio")
        loop = asyncio.get_running_loop()
        if backend is not None and loop not in _adjusted:
            _adjusted.add(loop)
            _name_root(backend, loop)


def _name_root(backend: Any, loop: Any) -> None:
    """Only a matter of speed: with another version of anyio or another loop, things stay as anyio makes them."""
    ended, root = getattr(loop, "ended", None), getattr(backend, "_root_task", None)
    if ended is not None and root is not None:
        root.set(ended)


def _metered(run_sync: Any) -> Any:
    @functools.wraps(run_sync)
    async def run_metered(func: Any, *args: Any, **options: Any) -> Any:
        meter = user_meter.get()
        if meter is None:
            return await run_sync(func, *args, **options)
        check_may_begin(meter)
        return await run_sync(measure_call, meter, func, *args, **options)

    return run_metered
