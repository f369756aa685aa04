"""How long to wait before what keeps failing is started again: pure."""

from __future__ import annotations

from collections import deque

from edge_runtime.limits import (
    CONTAINED_CRASH_BACKOFF_S,
    CRASH_BACKOFF_FIRST_S,
    CRASH_BACKOFF_MAX_S,
    CRASH_WINDOW_S,
)


class CrashBackoff:
    """A single crash is followed by an immediate start; each further one within the window doubles the delay."""

    def __init__(self, *, contained: bool = False) -> None:
        """`contained`: what crashes is put off by itself, and the delay is short."""
        self._contained = contained
        self._crashes: deque[float] = deque()

    def crashed(self, now_s: float) -> float:
        """Take note of a crash; returns the delay in seconds."""
        while self._crashes and now_s - self._crashes[0] > CRASH_WINDOW_S:
            self._crashes.popleft()
        self._crashes.append(now_s)
        earlier = len(self._crashes) - 1
        if not earlier:
            return 0.0
        most_s = CONTAINED_CRASH_BACKOFF_S if self._contained else CRASH_BACKOFF_MAX_S
        return float(min(most_s, CRASH_BACKOFF_FIRST_S * 2 ** min(earlier - 1, 16)))

    def reset(self) -> None:
        """Another version was deployed: it starts with a clean record."""
        self._crashes.clear()
