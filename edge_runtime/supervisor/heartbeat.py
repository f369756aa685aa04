"""Whether an isolate's event loop is alive: pure, told the time and the process's CPU use by its caller.

One ping is outstanding at a time. It goes unanswered while the loop is blocked; how long that may last is bounded in
wall time (`blocked_ms`) and in CPU time (`cpu_ms`, and some slack: the isolate's own soft stop comes first).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from edge_runtime.limits import CPU_KILL_SLACK_MS, HEARTBEAT_S

_SOONEST_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Beat:
    """What to do now, and when to look again."""

    ping: bool
    """Send a ping."""
    kill: str | None
    """Kill the isolate, for this reason."""
    next_s: float


class Heartbeat:
    def __init__(self, blocked_ms: int, cpu_ms: int) -> None:
        self._blocked_ms = blocked_ms
        self._cpu_ms = cpu_ms
        self._answered = True
        self._unanswered_s = 0.0
        self._cpu_before_ms = 0

    def pong(self) -> None:
        """The loop has answered, which of the pings does not matter."""
        self._answered = True

    def beat(self, elapsed_s: float, cpu_ms: int) -> Beat:
        """`elapsed_s` since the last call, `cpu_ms` used by the process in its whole life."""
        if self._answered:
            self._answered = False
            self._unanswered_s = 0.0
            self._cpu_before_ms = cpu_ms
            return Beat(True, None, HEARTBEAT_S)
        # A supervisor that was itself stopped or starved has not been listening: such time counts only in part.
        self._unanswered_s += min(elapsed_s, 2 * HEARTBEAT_S)
        wall_left_s = self._blocked_ms / 1000 - self._unanswered_s
        cpu_left_s = (self._cpu_ms + CPU_KILL_SLACK_MS - (cpu_ms - self._cpu_before_ms)) / 1000
        if cpu_left_s <= 0:
            reason = f"it used more than limits.cpu_ms = {self._cpu_ms} ms of CPU without giving up control"
            return Beat(False, reason, HEARTBEAT_S)
        if wall_left_s <= 0:
            reason = f"its event loop was blocked for more than {self._blocked_ms} ms (a blocking call in async code?)"
            return Beat(False, reason, HEARTBEAT_S)
        return Beat(False, None, max(_SOONEST_S, min(HEARTBEAT_S, wall_left_s, cpu_left_s)))
