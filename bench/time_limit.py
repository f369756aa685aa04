"""An end to waiting for what hangs."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class TimeOver(Exception):
    """It took longer than it may."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeOver inside the block once it has taken so long, wherever it waits. Main thread only; may be nested."""

    def ring(signum: int, frame: FrameType | None) -> None:
        raise TimeOver(f"not done within {seconds:g} s")

    begun_s = time.monotonic()
    outer = signal.signal(signal.SIGALRM, ring)
    outer_left_s = 0.0
    try:
        outer_left_s, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, outer)
        if outer_left_s:
            signal.setitimer(signal.ITIMER_REAL, max(0.001, outer_left_s - (time.monotonic() - begun_s)))
