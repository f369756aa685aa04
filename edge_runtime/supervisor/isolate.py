"""The supervisor's side of one isolate: its channel, its heartbeat, its end."""

from __future__ import annotations

import os
import select
import signal
import time
from typing import Final, Protocol

import trio

from edge_runtime.config.model import WorkerLimits
from edge_runtime.control import (
    ActorDeaths,
    AskedBySomeIsolate,
    ChargeLost,
    Connection,
    ConnectPeer,
    Drained,
    FindWorker,
    IsolateFailed,
    IsolateReady,
    ListObjects,
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
from edge_runtime.limits import EXIT_GRACE_S, HEARTBEAT_S
from edge_runtime.log_lines import Log, LogLine
from edge_runtime.metering.stack_file import Stack
from edge_runtime.promise import Promise
from edge_runtime.supervisor.blocked import answered_stack
from edge_runtime.supervisor.cpu_alarm import CpuAlarm
from edge_runtime.supervisor.culprits import Suspect
from edge_runtime.supervisor.exit_status import crashed, ended_from_outside, how_ended
from edge_runtime.supervisor.handovers import Handovers
from edge_runtime.supervisor.isolate_watch import IsolateWatch
from edge_runtime.supervisor.left_connections import LeftConnection
from edge_runtime.wire import Channel

_LAST_WORDS_S: Final = 5.0
"""How long after its death an isolate's last messages and its exit status are waited for."""

_UNREACHABLE_S: Final = 1.0
"""How long an isolate may live on after its control socket has come to its end."""

_ANSWER_S: Final = 5.0
"""How long a question for a list may take."""

_CONFIRM_S: Final = 0.02
"""How long after a connection was handed over the isolate is asked, out of turn, whether it has it."""


class IsolateOwner(Protocol):
    def isolate_logged(self, lines: tuple[LogLine, ...]) -> None: ...

    def isolate_answered(self, isolate: IsolateHandle, pong: Pong) -> None: ...

    def isolate_blocked(self, isolate: IsolateHandle, for_s: float, stack: Stack) -> None: ...

    def isolate_drained(self, isolate: IsolateHandle) -> None: ...

    def isolate_released(self, isolate: IsolateHandle, number: int) -> None: ...

    def isolate_asked(self, isolate: IsolateHandle, message: AskedBySomeIsolate) -> None: ...


def _has_ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


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
        self.suspects: list[Suspect] = []
        """Whose code may have ended it; once dead."""
        self.killed_for: str | None = None
        """Why the supervisor killed it, if it did."""
        self.left: list[LeftConnection] = []
        """Clients' connections that it had when it was killed; once dead, and then its owner's to close."""
        self.retiring = False
        self.last_pong: Pong | None = None
        self._pings = 0
        self._questions: dict[int, Promise[tuple[str, ...]]] = {}
        """Lists of objects that were asked for, by number."""
        self._asked = 0
        self._handovers = Handovers()
        self._pidfd = pidfd
        self._watched = IsolateWatch(pid, limits)
        self._cpu_alarm = CpuAlarm(pid)
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
            self.left = self._watched.left(self._handovers.undecided())
        except BaseException:
            self.kill("the server gave it up", abandon=True)
            raise
        finally:
            self.channel.close()
            os.close(self._pidfd)
            self._pidfd = -1
            self.lost = self._watched.lost(self.cpu_us_at_end, killed=self.killed_for is not None)
            self.suspects = self._watched.suspects(killed=self.killed_for is not None, crashed=crashed(self.status))
            self._watched.close()
            self._cpu_alarm.close()
            for event in (self.leaving, self.exited, self.dead):
                event.set()
            self._handovers.end()

    async def wait_started(self) -> None:
        """Return when it is ready or dead."""
        async with trio.open_nursery() as nursery:

            async def wait_dead() -> None:
                await self.dead.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(wait_dead)
            await self.ready.wait()
            nursery.cancel_scope.cancel()

    async def hand_over(self, descriptor: int) -> bool:
        """Pass a client's connection to the isolate and wait until it has it; the caller keeps its own descriptor.

        False means that the isolate died without having said so: what the client sent may still be unread. Raises
        trio.BrokenResourceError or trio.ClosedResourceError if it was dead already.
        """
        await self.channel.send(Connection(), (descriptor,))
        return await self._handovers.passed(descriptor)

    def tell(
        self, message: ActorDeaths | ChargeLost | Members | TimersChanged | Routes | WorkerMissing | PeerMissing
    ) -> None:
        """Say what the isolate must not miss. One that does not read what it is told is killed."""
        if not self.channel.send_soon(message) and not self.channel.peer_gone:
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

    def kill(self, reason: str, *, abandon: bool = False) -> None:
        """SIGKILL, unless it is dead already. Its connections will be in `left`, or with `abandon` are ended too."""
        if self._pidfd < 0 or _has_ended(self._pidfd):
            return  # by itself: this is not what ended it
        if self.killed_for is None:
            self.killed_for = reason
            if not abandon:
                self._watched.take_connections(self._pidfd)
        try:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        except ProcessLookupError:
            pass  # reaped already; the pidfd says so in a moment

    @property
    def killed_over_cpu(self) -> bool:
        """The supervisor killed it for its CPU time."""
        return self._watched.over_cpu

    @property
    def killed_over_threads(self) -> bool:
        """The supervisor killed it for their number, whoever has started them."""
        return self._watched.over_threads

    @property
    def ended_from_outside(self) -> bool:
        """Once it is dead: neither the supervisor nor its own code has ended it, or its template went with it."""
        if self.killed_for is not None or self.failure is not None:
            return False
        return self.status is None or ended_from_outside(self.status)

    def cpu_ms(self) -> int:
        """CPU time of the process so far, all threads, user and system."""
        return self._watched.cpu_ms()

    def memory_mb(self) -> int:
        """Private writable memory, as its limit counts it; 0 once it is dead."""
        return self._watched.memory_mb()

    def grown_mb(self) -> int:
        """Of its resident memory, what was added since it was ready."""
        return self._watched.grown_mb()

    def how_it_ended(self) -> str:
        """For the log, once it is dead."""
        if self.killed_for is not None:
            return f"killed: {self.killed_for}"
        if self.failure is not None:
            return self.failure.message
        return how_ended(self.status)

    async def _read(self, owner: IsolateOwner, ended: trio.Event) -> None:
        try:
            while (received := await self.channel.receive()) is not None:
                message, descriptors = received
                if not (isinstance(message, IsolateReady) and self._watched.see(descriptors)):
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
                self._handovers.ping_answered(number)
                self.last_pong = message
                self._watched.pong()
                owner.isolate_answered(self, message)
            case Log():
                owner.isolate_logged(message.lines)
            case Objects(number=number):
                if (question := self._questions.pop(number, None)) is not None:
                    question.resolve(message.ids)
            case IsolateReady():
                self._watched.ready()
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
        if self.channel.send_soon(Ping(self._pings)):
            self._handovers.ping_sent(self._pings)

    async def _confirm(self) -> None:
        while True:
            await self._handovers.wait_any()
            await trio.sleep(_CONFIRM_S)
            self._ping()

    async def _watch(self, owner: IsolateOwner) -> None:
        await self._watch_startup()
        before_s = time.monotonic()
        while not self.retiring:  # then its grace is the limit
            now_s = time.monotonic()
            beat = self._watched.beat(now_s - before_s)
            before_s = now_s
            if beat.kill is not None:
                self.kill(beat.kill)
                return
            if beat.ping:
                self._ping()
            if beat.blocked_s:
                self._watched.ask_for_stack(self._pidfd)
                owner.isolate_blocked(self, beat.blocked_s, await answered_stack(self._watched.stack))
            await self._cpu_alarm.sleep(beat.next_s, beat.next_cpu_s)

    async def _watch_startup(self) -> None:
        """Return when it is ready; it may import its script itself, and that must not take for ever."""
        while not self.ready.is_set():
            overrun = self._watched.startup_overrun()
            if overrun is not None:
                self.kill(overrun)
            with trio.move_on_after(HEARTBEAT_S):
                await self.ready.wait()
