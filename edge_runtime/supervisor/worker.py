"""One worker under supervision: which version serves, by which isolates, and what happens when that fails.

As many isolates as the version's `[edge] instances` take new connections, in turn. Successors start and take
connections while those before them finish; where its actors live meanwhile is `members`' affair.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import trio

from edge_runtime.control import AskedBySomeIsolate, Pong, Routes, RunScheduled
from edge_runtime.errors import ScriptError, StartInterrupted, UsageError
from edge_runtime.limits import ISOLATE_IDLE_GROWN_S, ISOLATE_IDLE_S, MEMORY_REPLACE_SHARE, START_WAIT_S, STARTUP_MS
from edge_runtime.log_lines import LogLine
from edge_runtime.metering.stack_file import Stack
from edge_runtime.supervisor.blocked import blocked_notice
from edge_runtime.supervisor.culprits import blame
from edge_runtime.supervisor.current_template import CurrentTemplate
from edge_runtime.supervisor.isolate import IsolateHandle
from edge_runtime.supervisor.isolate_group import IsolateGroup
from edge_runtime.supervisor.members import MemberIsolates
from edge_runtime.supervisor.report import Report
from edge_runtime.supervisor.spawner import Spawner
from edge_runtime.supervisor.start_record import StartRecord
from edge_runtime.supervisor.template_handle import TemplateHandle
from edge_runtime.supervisor.worker_records import WorkerStatus, WorkerUnavailable, WorkerVersion


def _nobody_answers(worker: Worker, isolate: IsolateHandle, message: AskedBySomeIsolate) -> None:
    """For a worker without a server around it."""


def nobody_takes(worker: Worker, isolate: IsolateHandle) -> None:
    for left in isolate.left:
        left.client.close()


class Worker:
    def __init__(
        self,
        version: WorkerVersion,
        spawner: Spawner,
        report: Report,
        *,
        grace_s: float,
        idle_s: float = ISOLATE_IDLE_S,
        idle_grown_s: float = ISOLATE_IDLE_GROWN_S,
        asked: Callable[[Worker, IsolateHandle, AskedBySomeIsolate], None] = _nobody_answers,
        take_back: Callable[[Worker, IsolateHandle], None] = nobody_takes,
    ) -> None:
        """`take_back` gets the connections that a killed isolate has `left`."""
        self.version = version
        self._report = report
        self._grace_s = grace_s
        self._asked = asked
        self._take_back = take_back
        self._isolates = IsolateGroup(self.name, idle_s, idle_grown_s)
        self._template = CurrentTemplate(self.name, spawner, report, self._isolates.charge)
        self._starts = StartRecord(self.name, report)
        self._wanted = False
        self._changed = trio.Event()
        self._starting = 0
        self._stopping = False
        self._number = 0
        self._nursery: trio.Nursery

    @property
    def name(self) -> str:
        """With the version, if it runs only what is pinned to that: the name in its actors' addresses."""
        return self.version.config.address

    @property
    def members(self) -> MemberIsolates:
        return self._isolates.members

    @property
    def asleep(self) -> bool:
        """No isolate runs or is being started: only a connection or a due timer will start one."""
        return not self.serving and not self._wanted

    @property
    def serving(self) -> bool:
        return bool(self._isolates.serving)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the worker as it is wanted, until cancelled; `stop` first for an orderly end."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            while True:
                missing = self.version.config.limits.instances - len(self._isolates.serving) - self._starting
                if self._wanted and not self._stopping:
                    for _ in range(missing):
                        self._starting += 1
                        nursery.start_soon(self._start_one)
                await self._changed.wait()

    def wake(self) -> None:
        """Have the isolates started unless one runs or a failure is too fresh."""
        if not self.serving and not self._stopping and self._starts.due:
            self._want()

    async def isolate(self) -> IsolateHandle:
        """The isolate that takes the next connection, started if there is none. Raises WorkerUnavailable."""
        tried = False
        with trio.move_on_after(START_WAIT_S):
            while True:
                if self._stopping:
                    raise WorkerUnavailable("the server is shutting down", "", 1)
                if self.serving:
                    return self._isolates.next()
                self._starts.refuse(tried=tried)
                tried = True
                self._starts.failure = None
                self._want()
                await self._changed.wait()
        raise WorkerUnavailable(f"worker {self.name} did not start within {START_WAIT_S:g} s", "", START_WAIT_S)

    async def replace(self, version: WorkerVersion) -> None:
        """Serve another version from now on.

        It is loaded first; if that fails, ScriptError is raised and the version before goes on serving. Then the old
        isolates release their actors, keep their open connections for the grace, and end.
        """
        await self._template.replace(version.task)
        self.version = version
        self._starts.forget()
        self._isolates.forget_deaths()
        self._retire_all()
        self._want()

    def fail(self, message: str, detail: str) -> None:
        """In development: what is on disk now cannot be served, so nothing is until it has been replaced."""
        self._retire_all()
        self._starts.failed(message, detail, math.inf)
        self._announce()

    async def stop(self) -> None:
        """Drain: take no more connections, end the isolates within the grace, and the template."""
        self._stopping = True
        self._announce()
        self._starts.interrupt()
        async with trio.open_nursery() as nursery:
            for isolate in self._isolates.living:
                isolate.begin_retiring(self._grace_s)
                self.members.retiring(isolate)
                nursery.start_soon(isolate.retire, self._grace_s)
        await self._template.end()

    def rest(self) -> None:
        """Give back what is kept for a quick start, while the worker is asleep."""
        if self.asleep:
            self._template.rest()

    def abandon(self) -> None:
        """End `run` at once, for a worker that never served or was stopped."""
        self._stopping = True
        self._nursery.cancel_scope.cancel()
        self._template.close()

    def kill(self) -> None:
        """End everything at once; `stop` then returns soon."""
        self._stopping = True
        for isolate in self._isolates.living:
            isolate.kill("the server was told to end at once")

    def routes_changed(self, routes: Routes) -> None:
        """Tell the isolates, those to come as well, where requests for the server's workers belong."""
        self._isolates.routes_changed(routes)

    def timers_changed(self) -> None:
        self._isolates.timers_changed()

    async def run_scheduled(self, cron: str, scheduled_ms: int) -> None:
        """Have a cron trigger fired. Raises UsageError if the worker has no such trigger, WorkerUnavailable."""
        crons = self.version.config.crons
        if cron not in crons:
            allowed = ", ".join(map(repr, crons)) or "none"
            raise UsageError(f"worker {self.name} has no trigger {cron!r}; allowed: {allowed}")
        isolate = await self.isolate()
        await isolate.channel.send(RunScheduled(cron, scheduled_ms))

    async def list_objects(self, namespace: str) -> list[str]:
        """The ids of a namespace's objects that are in memory, in order."""
        return await self._isolates.list_objects(namespace)

    def status(self) -> WorkerStatus:
        return self._isolates.status(self.version, self._starts.failure, starting=bool(self._starting))

    # What isolates report (IsolateOwner).

    def isolate_logged(self, lines: tuple[LogLine, ...]) -> None:
        for line in lines:
            self._report.log(self.name, line)

    def isolate_blocked(self, isolate: IsolateHandle, for_s: float, stack: Stack) -> None:
        self._report.notice(blocked_notice(self.name, isolate.pid, for_s, stack))

    def isolate_drained(self, isolate: IsolateHandle) -> None:
        self.members.drained(isolate)

    def isolate_released(self, isolate: IsolateHandle, number: int) -> None:
        self.members.released(isolate, number)

    def isolate_asked(self, isolate: IsolateHandle, message: AskedBySomeIsolate) -> None:
        self._asked(self, isolate, message)

    def isolate_answered(self, isolate: IsolateHandle, pong: Pong) -> None:
        """Evict the isolates when all have been idle for long enough, and one whose memory is about to run out, before
        it fails in every request."""
        allowed_mb = self.version.config.limits.memory_mb
        serves = isolate in self._isolates.serving
        if serves and (used_mb := isolate.memory_mb()) > allowed_mb * MEMORY_REPLACE_SHARE:
            self._report.notice(
                f"{self.name}: isolate {isolate.pid} is replaced: it uses {used_mb} of edge.memory_mb = {allowed_mb} MB"
            )
            self._retire(isolate)
            self._want()
        elif self._isolates.idle_after(isolate, pong):
            self._retire_all()

    # Starts and ends.

    async def _start_one(self) -> None:
        """Bring the number of serving isolates one nearer to what is wanted."""
        try:
            await self._starts.wait_due()
            if self._stopping or not self._wanted:
                return
            if not self.serving:
                self._starts.failure = None
            isolate = await self._start()
            if not isolate.dead.is_set() and not isolate.retiring:
                self._isolates.joined(isolate)
        except StartInterrupted as error:
            if not self._stopping and self._starts.interrupted(str(error)) and not self.serving:
                self._wanted = False
        except ScriptError as error:
            if not self.serving:
                self._wanted = False
            self._starts.crashed(str(error), error.detail)
        finally:
            self._starting -= 1
            self._announce()

    async def _start(self) -> IsolateHandle:
        """A new isolate that has said it is ready (it may have died since). Raises ScriptError, StartInterrupted."""
        template = await self._template.get(lambda: self.version.task)
        limits = self.version.config.limits
        self._number += 1
        isolate = await template.fork(self._number, limits)
        self._isolates.forked(isolate)
        self._nursery.start_soon(self._follow, isolate, template)
        with trio.move_on_after(STARTUP_MS / 1000):
            await isolate.wait_started()
        if isolate.ready.is_set():
            if not self._template.is_current(template):
                self._retire(isolate)
            return isolate
        isolate.retiring = True
        isolate.kill(f"it was not ready within {STARTUP_MS} ms")
        await isolate.dead.wait()
        detail = "" if isolate.failure is None else isolate.failure.detail
        kind = StartInterrupted if isolate.ended_from_outside else ScriptError
        raise kind(f"cannot start worker {self.name}: {isolate.how_it_ended()}", detail)

    async def _follow(self, isolate: IsolateHandle, template: TemplateHandle) -> None:
        try:
            await isolate.run(self)
        finally:
            found = blame(isolate.suspects, doubtful=isolate.ended_from_outside or isolate.killed_over_threads)
            reason = isolate.how_it_ended()
            self._isolates.put_off(found, reason)
            self._isolates.dead(isolate)
            self._take_back(self, isolate)
            if isolate.lost is not None:
                self._isolates.charge(isolate.lost)
            self._template.returned(template)
        if isolate.ready.is_set() and not isolate.retiring and not self._stopping:
            if found.suspects:
                reason += f" while {' or '.join(sorted({str(each) for each in found.suspects}))} ran"
            text = f"worker {self.name} keeps failing: {reason}"
            delay_s = self._starts.crashed(text, "", report=False, contained=found.contained)
            self._report.isolate_died(self.name, isolate.pid, reason, delay_s)
            # Not only connections need it: its actors may have timers.
            self._wanted = True
            self._announce()

    def _want(self) -> None:
        if not self._wanted:
            self._wanted = True
            self._announce()

    def _retire_all(self) -> None:
        self._wanted = False
        for isolate in list(self._isolates.serving):
            self._retire(isolate)

    def _retire(self, isolate: IsolateHandle) -> None:
        isolate.begin_retiring(self._grace_s)
        self._isolates.retiring(isolate)
        self._announce()
        self._nursery.start_soon(isolate.retire, self._grace_s)

    def _announce(self) -> None:
        """Have everybody who waits for an isolate look again."""
        self._changed.set()
        self._changed = trio.Event()
