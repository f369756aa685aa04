"""The supervisor's side of one isolate: its channel, its heartbeat, its end."""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from typing import Final, Protocol

import trio

from edge_runtime.config.model import WorkerLimits
from edge_runtime.control import (
    AskedBySomeIsolate,
    ChargeLost,
    Connection,
    ConnectPeer,
    Drained,
    FindWorker,
    IsolateFailed,
    IsolateReady,
    ListObjects,
    Log,
    LogLine,
    Members,
    MembersReleased,
    Objects,
    PeerMissing,
    Ping,
    Pong,
    Retire,
    Routes,
    TimersChanged,
    TimersWritten,
    WorkerMissing,
)
from edge_runtime.errors import WireError
from edge_runtime.event import Outcome
from edge_runtime.limits import CPU_KILL_SLACK_MS, EXIT_GRACE_S, HEARTBEAT_S
from edge_runtime.metering.panel import PanelReader, Running
from edge_runtime.promise import Promise
from edge_runtime.supervisor.heartbeat import Heartbeat
from edge_runtime.supervisor.process_clock import ProcessClock
from edge_runtime.wire import Channel

FromIsolate: Final = (
    IsolateReady
    | IsolateFailed
    | Pong
    | Objects
    | Drained
    | MembersReleased
    | FindWorker
    | ConnectPeer
    | TimersWritten
    | Log
)

_LAST_WORDS_S: Final = 5.0
"""How long after its death an isolate's last messages and its exit status are waited for."""

_UNREACHABLE_S: Final = 1.0
"""How long an isolate may live on after its control socket has come to its end."""

_ANSWER_S: Final = 5.0
"""How long a question for a list may take."""

_STACK_S: Final = 0.05
"""How long an isolate is given to write where its event loop is."""

_CONFIRM_S: Final = 0.02
"""How long after a connection was handed over the isolate is asked, out of turn, whether it has it."""


class _Handover:
    """Connections passed to the isolate between two pings."""

    __slots__ = ("begun", "decided", "taken")

    def __init__(self) -> None:
        self.begun = trio.Event()
        self.decided = trio.Event()
        self.taken = False


class IsolateOwner(Protocol):
    def isolate_logged(self, lines: tuple[LogLine, ...]) -> None: ...

    def isolate_answered(self, isolate: IsolateHandle, pong: Pong) -> None: ...

    def isolate_blocked(self, isolate: IsolateHandle, for_s: float, stack: list[tuple[str, int, str]]) -> None: ...

    def isolate_drained(self, isolate: IsolateHandle) -> None: ...

    def isolate_released(self, isolate: IsolateHandle, number: int) -> None: ...

    def isolate_asked(self, isolate: IsolateHandle, message: AskedBySomeIsolate) -> None: ...


class IsolateHandle:
    """One isolate process, from fork to confirmed death.

    `ready` is set when it serves, `leaving` when it takes no new connections, `dead` when the process is gone. Death
    sets all of them except `ready`.
    """

    def __init__(self, number: int, pid: int, pidfd: int, channel: Channel, limits: WorkerLimits) -> None:
        self.number = number
        self.pid = pid
        self.channel = channel
        self.ready = trio.Event()
        self.leaving = trio.Event()
        self.dead = trio.Event()
        self.exited = trio.Event()
        self.status: int | None = None
        """As os.waitpid gives it, once the template has reported it."""
        self.failure: IsolateFailed | None = None
        self.lost: ChargeLost | None = None
        """What the event used that was running when the isolate ended, and that it could not charge; once dead."""
        self.killed_for: str | None = None
        """Why the supervisor killed it, if it did."""
        self.retiring = False
        self.last_pong: Pong | None = None
        self._heartbeat = Heartbeat(limits.blocked_ms, limits.cpu_ms)
        self._pings = 0
        self._questions: dict[int, Promise[tuple[str, ...]]] = {}
        """Lists of objects that were asked for, by number."""
        self._asked = 0
        self._handover = _Handover()
        self._undecided: deque[tuple[int, _Handover]] = deque()
        self._pidfd = pidfd
        self._process = ProcessClock(pid)
        self._panel: PanelReader | None = None
        self._limit_ns = limits.cpu_ms * 1_000_000
        self._startup_cpu_ms = limits.startup_cpu_ms
        self._killed_over_cpu = False
        self._running: Running | None = None
        """What ran at the last look."""
        self.cpu_us_at_end: int | None = None
        """As the kernel counted, once the template has reported it."""

    async def run(self, owner: IsolateOwner) -> None:
        """Follow the isolate to its death. If this is cancelled, the isolate is killed first."""
        try:
            async with trio.open_nursery() as nursery:
                ended = trio.Event()
                nursery.start_soon(self._read, owner, ended)
                nursery.start_soon(self._watch, owner)
                nursery.start_soon(self._confirm)
                await trio.lowlevel.wait_readable(self._pidfd)
                with trio.move_on_after(_LAST_WORDS_S):
                    await ended.wait()
                    await self.exited.wait()
                nursery.cancel_scope.cancel()
        except BaseException:
            self.kill("the server gave it up")
            raise
        finally:
            self.channel.close()
            os.close(self._pidfd)
            self._pidfd = -1
            self.lost = self._find_lost()
            self._process.close()
            if self._panel is not None:
                self._panel.close()
            for event in (self.leaving, self.exited, self.dead):
                event.set()
            for handover in (self._handover, *(handover for _, handover in self._undecided)):
                handover.decided.set()

    async def hand_over(self, descriptor: int) -> bool:
        """Pass a client's connection to the isolate and wait until it has it; the caller keeps its own descriptor.

        False means that the isolate died without having said so: what the client sent may still be unread. Raises
        trio.BrokenResourceError or trio.ClosedResourceError if it was dead already.
        """
        await self.channel.send(Connection(), (descriptor,))
        handover = self._handover
        handover.begun.set()
        await handover.decided.wait()
        return handover.taken

    def tell(self, message: ChargeLost | Members | TimersChanged | Routes | WorkerMissing | PeerMissing) -> None:
        """Say what the isolate must not miss. One that does not read what it is told is killed."""
        if not self.channel.send_soon(message):
            self.kill("it does not read what it is told")

    async def list_objects(self, namespace: str) -> tuple[str, ...]:
        """The ids of a namespace's objects that are in memory there; none if the isolate dies or does not answer."""
        self._asked += 1
        question = self._questions[self._asked] = Promise()
        ids: tuple[str, ...] = ()
        with trio.move_on_after(_ANSWER_S):
            try:
                await self.channel.send(ListObjects(self._asked, namespace))
                ids = await question
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # dead: it has none any more
        return ids

    def begin_retiring(self, grace_s: float) -> None:
        """Ask the isolate to finish; it takes no new connections from now on."""
        if not self.retiring:
            self.retiring = True
            self.leaving.set()
            self.channel.send_soon(Retire(grace_s))

    async def retire(self, grace_s: float) -> None:
        """Ask the isolate to finish and return when it is dead, killed if the grace was not enough."""
        self.begin_retiring(grace_s)
        with trio.move_on_after(grace_s + EXIT_GRACE_S):
            await self.dead.wait()
        if not self.dead.is_set():
            self.kill(f"it was still busy {grace_s + EXIT_GRACE_S:g} s after it was told to end")
            await self.dead.wait()

    def kill(self, reason: str) -> None:
        """SIGKILL, unless it is dead already."""
        if self._pidfd < 0 or self.dead.is_set():
            return
        if self.killed_for is None:
            self.killed_for = reason
        try:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        except ProcessLookupError:
            pass  # reaped already; the pidfd says so in a moment

    def cpu_ms(self) -> int:
        """CPU time of the process so far, all threads, user and system."""
        return self._process.cpu_ms()

    def memory_mb(self) -> int:
        """Private writable memory, as its limit counts it; 0 once it is dead."""
        return self._process.memory_mb()

    def how_it_ended(self) -> str:
        """For the log, once it is dead."""
        if self.killed_for is not None:
            return f"killed: {self.killed_for}"
        if self.failure is not None:
            return self.failure.message
        if self.status is None:
            return "it ended in an unknown way"
        code = os.waitstatus_to_exitcode(self.status)
        if code >= 0:
            return f"it exited with code {code}"
        name = signal.Signals(-code).name if -code in signal.Signals.__members__.values() else f"signal {-code}"
        if name == "SIGKILL":
            return "it was ended by SIGKILL (out of memory?)"
        return f"it was ended by {name}"

    async def _read(self, owner: IsolateOwner, ended: trio.Event) -> None:
        try:
            while (received := await self.channel.receive()) is not None:
                message, descriptors = received
                if isinstance(message, IsolateReady) and len(descriptors) == 2 and self._panel is None:
                    self._panel = PanelReader(*descriptors)
                else:
                    for descriptor in descriptors:
                        os.close(descriptor)
                self._take(message, owner)
        except WireError as error:
            self.kill(f"it sent what is no message ({error})")
        except trio.BrokenResourceError:
            pass  # as the end of the stream
        ended.set()
        # A live isolate without control socket cannot be told anything: perhaps its script closed the descriptor.
        await trio.sleep(_UNREACHABLE_S)
        self.kill("it closed its control socket")

    def _take(self, message: object, owner: IsolateOwner) -> None:
        match message:
            case Pong(number=number):
                # It reads in order: what was sent before the ping has arrived.
                while self._undecided and self._undecided[0][0] <= number:
                    handover = self._undecided.popleft()[1]
                    handover.taken = True
                    handover.decided.set()
                self.last_pong = message
                self._heartbeat.pong()
                owner.isolate_answered(self, message)
            case Log():
                owner.isolate_logged(message.lines)
            case Objects(number=number):
                if (question := self._questions.pop(number, None)) is not None:
                    question.resolve(message.ids)
            case IsolateReady():
                self.ready.set()
            case IsolateFailed():
                self.failure = message
            case Drained():
                owner.isolate_drained(self)
            case MembersReleased(number=number):
                owner.isolate_released(self, number)
            case FindWorker() | ConnectPeer() | TimersWritten():
                owner.isolate_asked(self, message)

    def _ping(self) -> None:
        self._pings += 1
        if self.channel.send_soon(Ping(self._pings)) and self._handover.begun.is_set():
            self._undecided.append((self._pings, self._handover))
            self._handover = _Handover()

    async def _confirm(self) -> None:
        while True:
            await self._handover.begun.wait()
            await trio.sleep(_CONFIRM_S)
            self._ping()

    async def _watch(self, owner: IsolateOwner) -> None:
        await self._watch_startup()
        before_s = time.monotonic()
        while not self.retiring:  # then its grace is the limit
            now_s = time.monotonic()
            running = self._look()
            over_ms = None if running is None else running.over_ns / 1e6
            stuck = running is not None and running.stuck
            beat = self._heartbeat.beat(now_s - before_s, self.cpu_ms(), over_ms, stuck=stuck)
            before_s = now_s
            if beat.kill is not None:
                self._killed_over_cpu = beat.over_cpu
                self.kill(beat.kill)
            if beat.ping:
                self._ping()
            if beat.blocked_s and self._panel is not None:
                self._panel.ask_for_stack(self._pidfd)
                await trio.sleep(_STACK_S)
                owner.isolate_blocked(self, beat.blocked_s, self._panel.stack())
            await trio.sleep(beat.next_s)

    async def _watch_startup(self) -> None:
        """Return when it is ready; it may import its script itself, and that must not take for ever."""
        allowed_ms = self._startup_cpu_ms + CPU_KILL_SLACK_MS
        while not self.ready.is_set():
            if self.cpu_ms() > allowed_ms:
                self.kill(f"Script startup exceeded CPU time limit. (edge.startup_cpu_ms = {self._startup_cpu_ms} ms)")
            with trio.move_on_after(HEARTBEAT_S):
                await self.ready.wait()

    def _look(self) -> Running | None:
        self._running = None if self._panel is None else self._panel.running(self._process.loop_ns())
        return self._running

    def _find_lost(self) -> ChargeLost | None:
        """What the event that ran at the end had used. The first thread's share of what the process used since the last
        look is taken for all of it, since whatever ran then ran there."""
        if self._panel is None:
            return None
        seen_ns, seen_ms = self._process.loop_ns(), self._process.cpu_ms()
        if self.cpu_us_at_end is not None and not seen_ns:
            seen_ns = self.cpu_us_at_end * 1000
        elif self.cpu_us_at_end is not None:
            seen_ns += max(0, self.cpu_us_at_end - seen_ms * 1000) * 1000
        running = self._panel.running(seen_ns)
        if running is None:
            return None
        product, kind, name = self._panel.label(running.label)
        used_ns = self._limit_ns + running.over_ns if running.uncharged_ns is None else running.uncharged_ns
        if self._killed_over_cpu:
            outcome = Outcome.EXCEEDED_CPU
        else:
            outcome = Outcome.INTERNAL_ERROR if self.killed_for is None else Outcome.EXCEEDED_WALL_TIME
        return ChargeLost(product, kind, name, max(0, used_ns), 0.0, outcome)
