"""Whether an isolate is alive and within its limits: pure, told the time and what the isolate shows by its caller.

One ping is outstanding at a time. It goes unanswered while the event loop is blocked, which is reported, whatever
blocks it. How long it may wait for something meanwhile is bounded (`blocked_ms`); what it computes is bounded as CPU
time, which may be allowed to take longer. An event's CPU time is bounded by `cpu_ms` and some slack: the isolate's own
soft stop comes first. Where the loop is blocked by no event, that of the loop is bounded instead, and that of the
process while no event runs in a thread either: one may keep the interpreter to itself.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from edge_runtime.limits import BLOCKED_TOLD_S, CPU_KILL_SLACK_MS, HEARTBEAT_S, PROCESS_THREADS_MAX

_SOONEST_S: Final = 0.02
_SOONEST_CPU_S: Final = 0.01
_STOPPED_MS: Final = 100
"""Beyond its limit: an event that goes on then has swallowed the soft stop, if it has got it."""
_PROCESSORS: Final = os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class Beat:
    """What to do now, and when to look again."""

    ping: bool
    """Send a ping."""
    kill: str | None
    """Kill the isolate, for this reason."""
    next_s: float
    next_cpu_s: float = 0.0
    """Look already when it has used so much more CPU time: its threads may run on all processors at once."""
    over_cpu: bool = False
    """It is killed for its CPU time."""
    in_burst: bool = False
    """And that is of what runs for no event."""
    over_threads: bool = False
    """It is killed for the number of its threads."""
    blocked_s: float = 0.0
    """Tell where the event loop is: it has been blocked for so long. Once for each time that it is."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Of an isolate, by who looks at it. CPU times are of its whole life."""

    cpu_ms: float = 0.0
    """Of the process."""
    threads: int = 1
    loop_cpu_ms: float = 0.0
    """Of its event loop's thread."""
    loop_busy_ms: float = 0.0
    """For how long that thread has run, or was ready to and waited for a processor."""
    over_ms: float | None = None
    """By how much the running event has passed its limit, negative before that, None while no event runs."""
    stuck: bool = False
    """An event goes on after it was stopped."""
    burst_over_ms: float | None = None
    """By how much what runs for no event has passed what one may use, None while nothing does."""
    event_on_loop: bool = False
    """An event with a limit runs on the event loop."""


class Heartbeat:
    def __init__(self, blocked_ms: int, cpu_ms: int) -> None:
        self._blocked_ms = blocked_ms
        self._cpu_ms = cpu_ms
        self._answered = True
        self._unanswered_s = 0.0
        self._waited_s = 0.0
        """Of that, how long the loop has neither run nor been ready to run."""
        self._loop_busy_ms = 0.0
        self._loop_before_ms = 0.0
        self.cpu_before_ms = 0.0
        """What the process had used when its loop answered last."""
        self._told = False

    def pong(self) -> None:
        """The loop has answered, which of the pings does not matter."""
        self._answered = True

    def beat(self, elapsed_s: float, seen: Seen) -> Beat:
        """`elapsed_s` since the last call."""
        next_s = HEARTBEAT_S
        next_cpu_s = self._next_cpu_s(seen)
        if seen.threads > PROCESS_THREADS_MAX:
            reason = f"it has {seen.threads} threads, and an isolate may have {PROCESS_THREADS_MAX}"
            return Beat(False, reason, HEARTBEAT_S, over_threads=True)
        if seen.stuck:
            reason = (
                f"an event used more than limits.cpu_ms = {self._cpu_ms} ms of CPU and went on after it was stopped"
            )
            return Beat(False, reason, HEARTBEAT_S, over_cpu=True)
        if seen.over_ms is not None:
            left_s = (CPU_KILL_SLACK_MS - seen.over_ms) / 1000
            if left_s <= 0:
                return Beat(False, self._too_much_cpu, HEARTBEAT_S, over_cpu=True)
            next_s = max(_SOONEST_S, min(next_s, left_s))
        if seen.burst_over_ms is not None:
            # Nothing else could stop it: there is no slack.
            if seen.burst_over_ms >= 0:
                reason = f"threads that run for no event used more than limits.cpu_ms = {self._cpu_ms} ms of CPU"
                return Beat(False, reason, HEARTBEAT_S, over_cpu=True, in_burst=True)
            next_s = max(_SOONEST_S, min(next_s, -seen.burst_over_ms / 1000 / _PROCESSORS))
        busy_s = (seen.loop_busy_ms - self._loop_busy_ms) / 1000
        self._loop_busy_ms = seen.loop_busy_ms
        if self._answered:
            self._answered = self._told = False
            self._unanswered_s = self._waited_s = 0.0
            self.cpu_before_ms, self._loop_before_ms = seen.cpu_ms, seen.loop_cpu_ms
            return Beat(True, None, next_s, next_cpu_s)
        # A supervisor that was itself stopped or starved has not been listening: such time counts only in part.
        listened_s = min(elapsed_s, 2 * HEARTBEAT_S)
        self._unanswered_s += listened_s
        self._waited_s += max(0.0, listened_s - busy_s)
        if not seen.event_on_loop:
            used_ms = seen.loop_cpu_ms - self._loop_before_ms
            if seen.over_ms is None:
                used_ms = seen.cpu_ms - self.cpu_before_ms
            left_s = (self._cpu_ms + CPU_KILL_SLACK_MS - used_ms) / 1000
            if left_s <= 0:
                return Beat(False, self._too_much_cpu, HEARTBEAT_S, over_cpu=True)
            next_s = min(next_s, left_s)
        left_s = self._blocked_ms / 1000 - self._waited_s
        if left_s <= 0:
            reason = f"its event loop was blocked for more than {self._blocked_ms} ms (a blocking call in async code?)"
            return Beat(False, reason, HEARTBEAT_S)
        tell = not self._told and self._unanswered_s >= BLOCKED_TOLD_S
        self._told = self._told or tell
        blocked_s = self._unanswered_s if tell else 0.0
        return Beat(False, None, max(_SOONEST_S, min(next_s, left_s)), next_cpu_s, blocked_s=blocked_s)

    def _next_cpu_s(self, seen: Seen) -> float:
        """What may be used until something is over its limit, and it is known whether it was stopped softly, or until
        it is to be killed."""
        left_ms = float(max(self._cpu_ms, _STOPPED_MS))
        if seen.over_ms is not None:
            slack_ms = _STOPPED_MS if seen.over_ms < _STOPPED_MS else CPU_KILL_SLACK_MS
            left_ms = min(left_ms, slack_ms - seen.over_ms)
        if seen.burst_over_ms is not None:
            left_ms = min(left_ms, -seen.burst_over_ms)
        return max(_SOONEST_CPU_S, left_ms / 1000)

    @property
    def _too_much_cpu(self) -> str:
        return f"it used more than limits.cpu_ms = {self._cpu_ms} ms of CPU without giving up control"
