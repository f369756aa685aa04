"""What can be seen of an isolate from outside, whether it answers or not: its use of the processor, its limits, what
code runs in it, and what it leaves behind when it is killed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from edge_runtime.config.model import WorkerLimits
from edge_runtime.connection_marks import MarksReader
from edge_runtime.control import ChargeLost
from edge_runtime.event import Outcome
from edge_runtime.limits import CPU_KILL_SLACK_MS
from edge_runtime.metering.meter import BACKGROUND_NAME
from edge_runtime.metering.panel_reader import Look, PanelReader, Running
from edge_runtime.metering.stack_file import Stack
from edge_runtime.supervisor.culprits import Suspect
from edge_runtime.supervisor.heartbeat import Beat, Heartbeat, Seen
from edge_runtime.supervisor.left_connections import LeftConnection, LeftConnections
from edge_runtime.supervisor.process_clock import ProcessClock

_GETS_ON_S: Final = 0.001
_OTHERS_MS: Final = 30
"""An event on the loop is not what runs if the loop has used less than the one while the process used the other."""


class IsolateWatch:
    def __init__(self, pid: int, limits: WorkerLimits) -> None:
        self._process = ProcessClock(pid)
        self._heartbeat = Heartbeat(limits.blocked_ms, limits.cpu_ms)
        self._limit_s = limits.cpu_ms / 1000
        self._startup_cpu_ms = limits.startup_cpu_ms
        self._panel: PanelReader | None = None
        self._marks: MarksReader | None = None
        self._connections: LeftConnections | None = None
        self.over_cpu = False
        """The last beat said that it is to be killed for its CPU time."""
        self._in_burst = False
        """And that is of what runs for no event."""
        self.over_threads = False
        """The last beat said that it is to be killed for the number of its threads."""
        self._resident_at_start_mb = 0
        self._ran_away: Running | None = None
        """The event for which it is to be killed."""
        self._held_up = False
        """That one only waited for the interpreter, which a thread kept to itself."""
        self._got_on = 0.0, 0
        """CPU time of its event loop (s), and of all of it (ms), when the loop was last seen to have used some."""

    def see(self, descriptors: Sequence[int]) -> bool:
        """Begin to look at what the isolate shows (see `control.IsolateReady`); whether the descriptors were taken."""
        if self._panel is not None or len(descriptors) != 3:
            return False
        running, stack, marks = descriptors
        self._panel = PanelReader(running, stack)
        self._marks = MarksReader(marks)
        self._connections = LeftConnections(self._marks)
        return True

    def close(self) -> None:
        self._process.close()
        if self._panel is not None and self._marks is not None and self._connections is not None:
            self._panel.close()
            self._connections.close()
            self._marks.close()

    def cpu_ms(self) -> int:
        """CPU time of the process so far, all threads, user and system."""
        return self._process.cpu_ms()

    def memory_mb(self) -> int:
        """Private writable memory, as its limit counts it; 0 once it is dead."""
        return self._process.memory_mb()

    def ready(self) -> None:
        """The isolate serves from now on."""
        self._resident_at_start_mb = self._process.resident_mb()

    def grown_mb(self) -> int:
        """Of its resident memory, what was added since it was ready."""
        return self._process.resident_mb() - self._resident_at_start_mb

    def startup_overrun(self) -> str | None:
        """For an isolate that is not ready: why it is to be killed, which may import its script itself."""
        if self.cpu_ms() <= self._startup_cpu_ms + CPU_KILL_SLACK_MS:
            return None
        return f"Script startup exceeded CPU time limit. (edge.startup_cpu_ms = {self._startup_cpu_ms} ms)"

    def pong(self) -> None:
        self._heartbeat.pong()

    def beat(self, elapsed_s: float) -> Beat:
        """What to do now; `elapsed_s` since the last call."""
        found = self._look()
        events = found.events.copy()
        on_loop = events[0] if events and not events[0].thread else None
        loop_s, cpu_ms = self._process.loop_s(), self.cpu_ms()
        got_on_s, got_on_cpu_ms = self._got_on
        if loop_s - got_on_s >= _GETS_ON_S:
            self._got_on = loop_s, cpu_ms
        elif on_loop is not None and not on_loop.stuck and cpu_ms - got_on_cpu_ms >= _OTHERS_MS:
            events.remove(on_loop)  # it waits for the interpreter, which a thread keeps to itself
        running = max(events, key=lambda each: (each.stuck, each.over_s), default=None)
        burst = found.burst
        seen = Seen(
            cpu_ms=cpu_ms,
            threads=self._process.threads,
            loop_cpu_ms=loop_s * 1000,
            loop_busy_ms=self._process.loop_busy_s() * 1000,
            over_ms=None if running is None else running.over_s * 1000,
            stuck=running is not None and running.stuck,
            burst_over_ms=None if burst is None else burst.over_s * 1000,
            event_on_loop=on_loop is not None and on_loop in events,
        )
        beat = self._heartbeat.beat(elapsed_s, seen)
        self.over_cpu, self.over_threads = beat.over_cpu, beat.over_threads
        if beat.in_burst:
            self._ran_away, self._in_burst = burst, True
        elif beat.kill is not None:
            self._ran_away = running if beat.over_cpu else on_loop
            self._held_up = not beat.over_cpu and on_loop not in events
        return beat

    def _look(self) -> Look:
        if self._panel is None:
            return Look([], None)
        return self._panel.look(self._process.loop_s(), self._process.threads_s, self._limit_s)

    def ask_for_stack(self, pidfd: int) -> None:
        """Have `stack` find where the event loop is, a moment later."""
        if self._panel is not None:
            self._panel.stack.ask(pidfd)

    def stack(self) -> Stack:
        """File, line and function of each frame, innermost first; empty if it cannot be had."""
        return [] if self._panel is None else self._panel.stack.read()

    def take_connections(self, pidfd: int) -> None:
        """Call right before the isolate is killed, so that `left` finds something."""
        if self._connections is not None:
            self._connections.take(pidfd)

    def left(self, undecided: set[int]) -> list[LeftConnection]:
        """The connections that were taken and are still to be served, once it is dead (see `LeftConnections.left`)."""
        if self._connections is None:
            return []
        return self._connections.left(0 if self._ran_away is None else self._ran_away.connection, undecided)

    def suspects(self, *, killed: bool, crashed: bool) -> list[Suspect]:
        """Whose code may have ended it, or was what it was killed for; once it is dead. `crashed`: by a signal that
        nobody sent. Nobody's where it was killed for what no event did."""
        if self._panel is None or (killed and self._ran_away is None):
            return []
        ran_away = None if self._held_up else self._ran_away
        found = self._panel.left(crashed=crashed) if ran_away is None else [ran_away]
        return [Suspect(*self._panel.label(each.label)[1:], each.actor) for each in found]

    def lost(self, cpu_us_at_end: int | None, *, killed: bool) -> ChargeLost | None:
        """What the event had used for which it was killed, or else that ran on the event loop at the end, once it is
        dead. If it was killed for CPU time of no known event, that is the script's background work."""
        if self._panel is None:
            return None
        cpu_ns = self._process.cpu_ns()
        since_ns = 0 if cpu_us_at_end is None else max(0, cpu_us_at_end * 1000 - cpu_ns)
        running = self._ran_away
        if running is None:
            found = self._look().events
            if self.over_cpu:
                threads = [each for each in found if each.thread]
                running = max(threads, key=lambda each: each.uncharged_s, default=None)
                if running is None:
                    used_ns = cpu_ns - int(self._heartbeat.cpu_before_ms * 1e6) + since_ns
                    return ChargeLost("worker", *BACKGROUND_NAME, max(0, used_ns), 0.0, Outcome.EXCEEDED_CPU)
            elif found and not found[0].thread:
                running = found[0]
        if running is None:
            return None
        product, kind, name = self._panel.label(running.label)
        if self.over_cpu:
            outcome = Outcome.EXCEEDED_CPU
        elif self.over_threads:
            outcome = Outcome.EXCEEDED_MEMORY
        else:
            outcome = Outcome.EXCEEDED_WALL_TIME if killed else Outcome.INTERNAL_ERROR
        used_ns = max(0, int(running.uncharged_s * 1e9) + since_ns)
        counted = running.charged_s > 0 and not self._in_burst
        return ChargeLost(product, kind, name, used_ns, 0.0, outcome, counted, counted and running.failed)
