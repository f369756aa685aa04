"""The CPU time that a script may take while it is imported: CpuLimitExceeded is raised in it beyond that.

A script that swallows it gets it again; the supervisor kills one that goes on all the same, or is in native code.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from time import process_time_ns
from types import FrameType
from typing import Final

from edge_runtime.errors import CpuLimitExceeded

STARTUP_EXCEEDED: Final = "Script startup exceeded CPU time limit."
_AGAIN_S: Final = 0.01


@contextmanager
def limited_startup(cpu_ms: int) -> Iterator[None]:
    """For the main thread. What is imported may leave the timer as it likes; it is taken down afterwards."""
    ends_ns = process_time_ns() + cpu_ms * 1_000_000

    def stop(_: int, frame: FrameType | None) -> None:
        # The timer goes by the kernel's ticks and may be early.
        if process_time_ns() >= ends_ns:
            raise CpuLimitExceeded(STARTUP_EXCEEDED)

    before = signal.signal(signal.SIGPROF, stop)
    signal.siginterrupt(signal.SIGPROF, False)
    signal.setitimer(signal.ITIMER_PROF, cpu_ms / 1000, _AGAIN_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
