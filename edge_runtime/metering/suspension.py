"""Where a task of trio's gives up control: what is charged ends there, and is charged again when the task goes on.

All of trio's waits and checkpoints come by one generator, which is replaced here when this is imported. To step the
coroutine of each event by hand would take as long again as all the rest that the meter does.

Who steps a coroutine itself, and goes on when that gives up control, is charged again from the next tick of
`isolate.events.cpu_guard` on, or the end of its call, for all that it has used since; and where native code keeps that
tick away, the page goes on to show it (see `loop_thread.begin_wait`).
"""

from __future__ import annotations

from collections.abc import Generator
from time import monotonic
from types import coroutine
from typing import Any

import trio
from trio._core import _traps

from edge_runtime.metering.loop_thread import (
    CHARGED,
    CHARGED_IN_PART,
    CLOCK_READ_S,
    DEADLINE,
    LABEL,
    loop_thread,
    stop_of,
)

if not hasattr(_traps, "_async_yield"):
    raise RuntimeError(
        f"trio {trio.__version__} lacks _traps._async_yield, where the meter notices that a task waits; allowed: 0.34, "
        "0.35"
    )


@coroutine
def suspend(message: Any) -> Generator[Any, Any, Any]:
    """Give up control, with a message for trio; returns what trio sends."""
    loop = loop_thread
    meter = loop.charged
    if meter is None:
        return (yield message)
    # `end` and `begin` of the loop's thread are written out: their calls would be a fifth of the price.
    wall_s = monotonic()
    used_s = wall_s - loop.since_s
    if used_s >= CLOCK_READ_S or wall_s >= loop.due_s:
        loop.end(None)
    else:
        meter.cpu_s += used_s
        loop.attributed_s += used_s
        loop.charged = None
        loop.since_s = wall_s
    try:
        sent = yield message
    except BaseException:
        if loop.charged is None:  # otherwise somebody else closes a coroutine that was left behind, and is charged
            loop.begin(meter)
        raise
    wall_s = monotonic()
    if wall_s - loop.since_s >= CLOCK_READ_S:
        loop.read_clock(wall_s)
    if loop.charged is not None:
        loop.charge(loop.charged, wall_s)
    loop.charged = meter
    loop.since_s = wall_s
    page = loop.page
    if meter.shown_s:
        page[CHARGED] = meter.shown_s
        page[LABEL] = meter.label + CHARGED_IN_PART
    else:
        page[LABEL] = meter.label
    page[DEADLINE] = wall_s + loop.cpu_less_wall_s + meter.limit_s - meter.cpu_s
    if meter.cpu_s > meter.stop_s:
        raise stop_of(meter, meter.cpu_s)
    return sent


_traps._async_yield = suspend
