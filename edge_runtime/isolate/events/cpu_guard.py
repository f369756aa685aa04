"""The soft stop: CpuLimitExceeded raised inside of user code that has used its CPU time.

A timer signals for every TICK of CPU time that the process uses, so an idle isolate is never woken. The handler runs on
the event loop's thread between two instructions, and raises only where the innermost of them is the script's (or a
library's of its own): the runtime, trio and asyncio's loop are never interrupted, as with trio's protection against
KeyboardInterrupt, which scripts cannot lower. Code that is in there just then is looked at again a millisecond later.

A script can disarm all this, and native code does not notice it. Then the supervisor reads on the page of
`metering.loop_thread` how far over its limit the event is, and kills the isolate.
"""

from __future__ import annotations

import signal
from time import process_time, thread_time
from types import FrameType
from typing import Final

from edge_runtime.compat.waking_signals import ticks_wake_nobody
from edge_runtime.isolate.events.cpu_timer import CpuTimer
from edge_runtime.limits import CPU_TICK_MS
from edge_runtime.metering.loop_thread import go_on, running, stop_of
from edge_runtime.metering.measure import calling
from edge_runtime.metering.meter import Meter
from edge_runtime.metering.threads import charge_threads
from edge_runtime.tracebacks import is_runtime_file

_TICK_S: Final = CPU_TICK_MS / 1000
_AGAIN_S: Final = 0.001
_THREADS_S: Final = _TICK_S / 4
"""What other threads have used, before a tick looks at each."""

_theirs: Final[dict[str, bool]] = {}
"""Whether a file is the script's or its libraries', as far as files have been met."""
_in_threads_s = 0.0
"""What the other threads had used when a tick looked at them last."""
_timer: CpuTimer


def guard_cpu() -> None:
    """Begin to stop events over their limit; once per process, on its main thread."""
    global _timer
    signal.signal(signal.SIGPROF, _tick)
    # Interrupted system calls go on by themselves: libraries need not know of the signal.
    signal.siginterrupt(signal.SIGPROF, False)
    ticks_wake_nobody()
    _timer = CpuTimer(signal.SIGPROF)
    _timer.arm(_TICK_S, _TICK_S)


def _tick(_: int, frame: FrameType | None) -> None:
    global _in_threads_s
    loop_s = thread_time()
    in_threads_s = process_time() - loop_s
    if in_threads_s - _in_threads_s >= _THREADS_S:
        _in_threads_s = in_threads_s
        charge_threads(and_stop=True)
    found = running(loop_s) or _running_uncharged(frame, loop_s)
    if found is None:
        return
    meter, used_s = found
    if used_s <= meter.stop_s:
        return
    if frame is None or not _is_theirs(frame.f_code.co_filename):
        _timer.arm(_AGAIN_S, _TICK_S)
        return
    raise stop_of(meter, used_s)


def _running_uncharged(frame: FrameType | None, loop_s: float) -> tuple[Meter, float] | None:
    """The script's code where nobody is charged: it has stepped a coroutine by hand, that gave up control, and has gone
    on. It is charged again."""
    if frame is not None and _is_theirs(frame.f_code.co_filename):
        meter = calling(frame)
        if meter is not None:
            go_on(meter)
            return running(loop_s)
    return None


def _is_theirs(file: str) -> bool:
    theirs = _theirs.get(file)
    if theirs is None:
        theirs = _theirs[file] = not is_runtime_file(file)
    return theirs
