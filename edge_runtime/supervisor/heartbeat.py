"""Whether an isolate is alive and within its limits: pure, told the time and what the isolate shows by its caller.

One ping is outstanding at a time. It goes unanswered while the event loop is blocked; how long that may last is bounded
in wall time (`blocked_ms`), and reported before that. An event's CPU time is bounded by `cpu_ms` and some slack: the
isolate's own soft stop comes first. Where no event runs and the loop is blocked all the same, by a thread that keeps
the interpreter to itself, the process's CPU time is what is bounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from edge_runtime.limits import BLOCKED_TOLD_S, CPU_KILL_SLACK_MS, HEARTBEAT_S

_SOONEST_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Beat:
    """What to do now, and when to look again."""

    ping: bool
    """Send a ping."""
    kill: str | None
    """Kill the isolate, for this reason."""
    next_s: float
    over_cpu: bool = False
    """It is killed for its CPU time."""
    blocked_s: float = 0.0
    """Tell where the event loop is: it has been blocked for so long. Once for each time that it is."""


class Heartbeat:
    def __init__(self, blocked_ms: int, cpu_ms: int) -> None:
        self._blocked_ms = blocked_ms
        self._cpu_ms = cpu_ms
        self._answered = True
        self._unanswered_s = 0.0
        self.cpu_before_ms = 0
        """What the process had used when its loop answered last."""
        self._told = False

    def pong(self) -> None:
        """The loop has answered, which of the pings does not matter."""
        self._answered = True

    def beat(self, elapsed_s: float, cpu_ms: int, over_ms: float | None = None, *, stuck: bool = False) -> Beat:
        """`elapsed_s` since the last call, `cpu_ms` used by the process in its whole life.

        `over_ms`: by how much the running event has passed its limit, negative before that, None while no event runs;
        `stuck`: an event goes on after it was stopped.
        """
        next_s = HEARTBEAT_S
        if stuck:
            reason = (
                f"an event used more than limits.cpu_ms = {self._cpu_ms} ms of CPU and went on after it was stopped"
            )
            return Beat(False, reason, HEARTBEAT_S, over_cpu=True)
        if over_ms is not None:
            left_s = (CPU_KILL_SLACK_MS - over_ms) / 1000
            if left_s <= 0:
                return Beat(False, self._too_much_cpu, HEARTBEAT_S, over_cpu=True)
            next_s = max(_SOONEST_S, min(next_s, left_s))
        if self._answered:
            self._answered = self._told = False
            self._unanswered_s = 0.0
            self.cpu_before_ms = cpu_ms
            return Beat(True, None, next_s)
        # A supervisor that was itself stopped or starved has not been listening: such time counts only in part.
        self._unanswered_s += min(elapsed_s, 2 * HEARTBEAT_S)
        if over_ms is None:
            left_s = (self._cpu_ms + CPU_KILL_SLACK_MS - (cpu_ms - self.cpu_before_ms)) / 1000
            if left_s <= 0:
                return Beat(False, self._too_much_cpu, HEARTBEAT_S, over_cpu=True)
            next_s = min(next_s, left_s)
        left_s = self._blocked_ms / 1000 - self._unanswered_s
        if left_s <= 0:
            reason = f"its event loop was blocked for more than {self._blocked_ms} ms (a blocking call in async code?)"
            return Beat(False, reason, HEARTBEAT_S)
        tell = not self._told and self._unanswered_s >= BLOCKED_TOLD_S
        self._told = self._told or tell
        blocked_s = self._unanswered_s if tell else 0.0
        return Beat(False, None, max(_SOONEST_S, min(next_s, left_s)), blocked_s=blocked_s)

    @property
    def _too_much_cpu(self) -> str:
        return f"it used more than limits.cpu_ms = {self._cpu_ms} ms of CPU without giving up control"
