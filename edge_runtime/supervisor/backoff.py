"""How long to wait before a worker that keeps failing is started again: pure."""

from __future__ import annotations

from collections import deque

from edge_runtime.limits import CRASH_BACKOFF_FIRST_S, CRASH_BACKOFF_MAX_S, CRASH_WINDOW_S


class CrashBackoff:
    """A single crash is followed by an immediate start; each further one within the window doubles the delay."""

    def __init__(self) -> None:
        self._crashes: deque[float] = deque()

    def crashed(self, now_s: float) -> float:
        """Take note of a crash; returns the delay in seconds."""
        while self._crashes and now_s - self._crashes[0] > CRASH_WINDOW_S:
            self._crashes.popleft()
        self._crashes.append(now_s)
        earlier = len(self._crashes) - 1
        if not earlier:
            return 0.0
        return float(min(CRASH_BACKOFF_MAX_S, CRASH_BACKOFF_FIRST_S * 2 ** min(earlier - 1, 16)))

    def reset(self) -> None:
        """Another version was deployed: it starts with a clean record."""
        self._crashes.clear()
