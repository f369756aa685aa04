"""One worker under supervision: which version serves, by which isolates, and what happens when that fails.

As many isolates as the version's `[edge] instances` take new connections, in turn. Successors start and take
connections while those before them finish; where its actors live meanwhile is `members`' affair.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from itertools import takewhile
from typing import Final

import trio

from edge_runtime.config.model import WorkerConfig
from edge_runtime.control import (
    AskedBySomeIsolate,
    ChargeLost,
    LogLine,
    MakeTemplate,
    Pong,
    Routes,
    RunScheduled,
    TimersChanged,
)
from edge_runtime.errors import EdgeError, ScriptError, UsageError
from edge_runtime.event import Outcome
from edge_runtime.limits import CRASH_BACKOFF_MAX_S, ISOLATE_IDLE_S, MEMORY_REPLACE_SHARE, START_WAIT_S, STARTUP_MS
from edge_runtime.supervisor.backoff import CrashBackoff
from edge_runtime.supervisor.isolate import IsolateHandle
from edge_runtime.supervisor.members import MemberIsolates
from edge_runtime.supervisor.report import Report
from edge_runtime.supervisor.spawner import Spawner, TemplateHandle
from edge_runtime.tracebacks import is_runtime_file

_BELOW_SCRIPTS: Final = "edge_runtime/metering/meter.py"
"""The frame from which code of scripts is called."""
_OWN_FRAMES_SHOWN: Final = 5
"""Of a stack without any frame of a script."""
_WAITED_FOR_S: Final = 1.0
"""A connection waits for a restart that is at most this far away, and is refused otherwise."""


@dataclass(frozen=True, slots=True)
class WorkerVersion:
    """A version as it is deployed: its configuration and what a template needs to load it."""

    config: WorkerConfig
    task: MakeTemplate
    classes: tuple[tuple[str, str, str], ...] = ()
    """As in `control.WorkerRoutes`."""
    pins: bool = False
    """Workflow instances may be pinned to this version."""


class WorkerUnavailable(EdgeError):
    """No isolate can take a connection now. `detail` is for the script's author only."""

    def __init__(self, message: str, detail: str, retry_after_s: float) -> None:
        self.detail = detail
        self.retry_after_s = math.ceil(min(max(1, retry_after_s), CRASH_BACKOFF_MAX_S))
        super().__init__(message)


class WorkerState(StrEnum):
    IDLE = "idle"
    STARTING = "starting"
    SERVING = "serving"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """For the admin API."""

    name: str
    version: str
    state: WorkerState
    pids: tuple[int, ...]
    retiring_pids: tuple[int, ...]
    connections: int
    events: int
    actors: int
    cpu_ms: int
    failure: str | None


def _nobody_answers(worker: Worker, isolate: IsolateHandle, message: AskedBySomeIsolate) -> None:
    """For a worker without a server around it."""


class Worker:
    def __init__(
        self,
        version: WorkerVersion,
        spawner: Spawner,
        report: Report,
        *,
        grace_s: float,
        idle_s: float = ISOLATE_IDLE_S,
        asked: Callable[[Worker, IsolateHandle, AskedBySomeIsolate], None] = _nobody_answers,
    ) -> None:
        self.version = version
        self._idle_s = idle_s
        self._spawner = spawner
        self._report = report
        self._grace_s = grace_s
        self._template: TemplateHandle | None = None
        self.members = MemberIsolates(version.config.address)
        self._asked = asked
        self._serving: list[IsolateHandle] = []
        self._isolates: set[IsolateHandle] = set()
        self._wanted = False
        self._changed = trio.Event()
        self._interrupt = trio.Event()
        self._backoff = CrashBackoff()
        self._failure: WorkerUnavailable | None = None
        self._retry_at_s = 0.0
        self._reported: tuple[str, str] | None = None
        self._starting = 0
        self._turn = 0
        self._stopping = False
        self._busy_at_s = 0.0
        self._number = 0
        self._routes = Routes(())
        self._uncharged: list[ChargeLost] = []
        self._deploying = trio.Lock()
        self._nursery: trio.Nursery

    @property
    def name(self) -> str:
        """With the version, if it runs only what is pinned to that: the name in its actors' addresses."""
        return self.version.config.address

    @property
    def asleep(self) -> bool:
        """No isolate runs or is being started: only a connection or a due timer will start one."""
        return not self._serving and not self._wanted

    @property
    def serving(self) -> bool:
        return bool(self._serving)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the worker as it is wanted, until cancelled; `stop` first for an orderly end."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            while True:
                missing = self.version.config.limits.instances - len(self._serving) - self._starting
                if self._wanted and not self._stopping:
                    for _ in range(missing):
                        self._starting += 1
                        nursery.start_soon(self._start_one)
                await self._changed.wait()

    def wake(self) -> None:
        """Have the isolates started unless one runs or a failure is too fresh."""
        if not self._serving and not self._stopping and time.monotonic() >= self._retry_at_s:
            self._want()

    async def isolate(self) -> IsolateHandle:
        """The isolate that takes the next connection, started if there is none. Raises WorkerUnavailable."""
        asked = False
        with trio.move_on_after(START_WAIT_S):
            while True:
                now_s = time.monotonic()
                if self._stopping:
                    raise WorkerUnavailable("the server is shutting down", "", 1)
                if self._serving:
                    self._busy_at_s = now_s
                    self._turn += 1
                    return self._serving[self._turn % len(self._serving)]
                if self._failure is not None and (asked or now_s < self._retry_at_s):
                    raise WorkerUnavailable(str(self._failure), self._failure.detail, self._retry_at_s - now_s)
                asked = True
                self._failure = None
                self._want()
                await self._changed.wait()
        raise WorkerUnavailable(f"worker {self.name} did not start within {START_WAIT_S:g} s", "", START_WAIT_S)

    async def replace(self, version: WorkerVersion) -> None:
        """Serve another version from now on.

        It is loaded first; if that fails, ScriptError is raised and the version before goes on serving. Then the old
        isolates release their actors, keep their open connections for the grace, and end.
        """
        async with self._deploying:
            template = await self._load(version.task)
            old, self._template = self._template, template
            self.version = version
            self._forget_failure()
            self._report.worker_loaded(self.name, version.task.version, template.startup_cpu_us)
            self._retire_all()
            self._want()
            self._drop_if_unused(old)

    def fail(self, message: str, detail: str) -> None:
        """In development: what is on disk now cannot be served, so nothing is until it has been replaced."""
        self._retire_all()
        self._set_failure(message, detail, math.inf)

    async def stop(self) -> None:
        """Drain: take no more connections, end the isolates within the grace, and the template."""
        self._stopping = True
        self._announce()
        self._interrupt.set()
        async with trio.open_nursery() as nursery:
            for isolate in self._isolates:
                isolate.begin_retiring(self._grace_s)
                self.members.retiring(isolate)
                nursery.start_soon(isolate.retire, self._grace_s)
        template, self._template = self._template, None
        if template is not None:
            template.close()
            await template.gone()

    def rest(self) -> None:
        """Give back what is kept for a quick start, while the worker is asleep."""
        if self.asleep and self._template is not None and self._template.users == 0:
            self._template.close()
            self._template = None

    def abandon(self) -> None:
        """End `run` at once, for a worker that never served or was stopped."""
        self._stopping = True
        self._nursery.cancel_scope.cancel()
        if self._template is not None:
            self._template.close()

    def kill(self) -> None:
        """End everything at once; `stop` then returns soon."""
        self._stopping = True
        for isolate in self._isolates:
            isolate.kill("the server was told to end at once")

    def routes_changed(self, routes: Routes) -> None:
        """Tell the isolates, those to come as well, where requests for the server's workers belong."""
        self._routes = routes
        for isolate in self._isolates:
            isolate.tell(routes)

    def timers_changed(self) -> None:
        for isolate in self._serving:
            isolate.tell(TimersChanged())

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
        return sorted({id for isolate in tuple(self._isolates) for id in await isolate.list_objects(namespace)})

    def status(self) -> WorkerStatus:
        pongs = [isolate.last_pong for isolate in self._serving if isolate.last_pong is not None]
        if self._serving:
            state = WorkerState.SERVING
        elif self._failure is not None:
            state = WorkerState.FAILED
        else:
            state = WorkerState.STARTING if self._starting else WorkerState.IDLE
        return WorkerStatus(
            name=self.name,
            version=self.version.task.version,
            state=state,
            pids=tuple(isolate.pid for isolate in self._serving),
            retiring_pids=tuple(isolate.pid for isolate in self._isolates if isolate not in self._serving),
            connections=sum(pong.connections for pong in pongs),
            events=sum(pong.events for pong in pongs),
            actors=sum(pong.actors for pong in pongs),
            cpu_ms=sum(isolate.cpu_ms() for isolate in self._serving),
            failure=None if self._failure is None else str(self._failure),
        )

    # What isolates report (IsolateOwner).

    def isolate_logged(self, lines: tuple[LogLine, ...]) -> None:
        for line in lines:
            self._report.log(self.name, line)

    def isolate_blocked(self, isolate: IsolateHandle, for_s: float, stack: list[tuple[str, int, str]]) -> None:
        called = list(takewhile(lambda frame: not frame[0].endswith(_BELOW_SCRIPTS), stack))
        theirs = [frame for frame in called if not is_runtime_file(frame[0])] or called[:_OWN_FRAMES_SHOWN]
        lines = [f'\n  File "{file}", line {line}, in {function}' for file, line, function in reversed(theirs)]
        place = f"; it is here, the innermost call last:{''.join(lines)}" if lines else ""
        self._report.notice(
            f"{self.name}: the event loop of isolate {isolate.pid} has been blocked for {for_s:.1f} s{place}"
        )

    def isolate_drained(self, isolate: IsolateHandle) -> None:
        self.members.drained(isolate)

    def isolate_released(self, isolate: IsolateHandle, number: int) -> None:
        self.members.released(isolate, number)

    def isolate_asked(self, isolate: IsolateHandle, message: AskedBySomeIsolate) -> None:
        self._asked(self, isolate, message)

    def isolate_answered(self, isolate: IsolateHandle, pong: Pong) -> None:
        """Evict the isolates when all have had nothing to do for `idle_s` and will not have soon, and one whose memory
        is about to run out, before it fails in every request."""
        now_s = time.monotonic()
        allowed_mb = self.version.config.limits.memory_mb
        if isolate in self._serving and (used_mb := isolate.memory_mb()) > allowed_mb * MEMORY_REPLACE_SHARE:
            self._report.notice(
                f"{self.name}: isolate {isolate.pid} is replaced: it uses {used_mb} of edge.memory_mb = {allowed_mb} MB"
            )
            self._retire(isolate)
            self._want()
            return
        if pong.connections or pong.events or pong.actors:
            self._busy_at_s = now_s
            return
        due_soon = pong.next_due_ms is not None and pong.next_due_ms - time.time() * 1000 < self._idle_s * 1000
        if due_soon:
            self._busy_at_s = max(self._busy_at_s, now_s - self._idle_s / 2)
        elif isolate in self._serving and now_s - self._busy_at_s >= self._idle_s and self._all_idle():
            self._retire_all()

    def _all_idle(self) -> bool:
        pongs = [isolate.last_pong for isolate in self._serving]
        return all(pong is not None and not (pong.connections or pong.events or pong.actors) for pong in pongs)

    # Starts and ends.

    async def _start_one(self) -> None:
        """Bring the number of serving isolates one nearer to what is wanted."""
        try:
            delay_s = self._retry_at_s - time.monotonic()
            if delay_s > 0:
                with trio.move_on_after(delay_s):
                    await self._interrupt.wait()
            if self._stopping or not self._wanted:
                return
            if not self._serving:
                self._failure = None
            isolate = await self._start()
            if isolate.dead.is_set() or isolate.retiring:
                return
            self._busy_at_s = time.monotonic()
            self._serving.append(isolate)
            self.members.joined(isolate)
            uncharged, self._uncharged = self._uncharged, []
            for charge in uncharged:
                isolate.tell(charge)
        except ScriptError as error:
            if not self._serving:
                self._wanted = False
            self._crashed(str(error), error.detail)
        finally:
            self._starting -= 1
            self._announce()

    async def _start(self) -> IsolateHandle:
        """A new isolate that has said it is ready (it may have died since). Raises ScriptError."""
        if self._template is None or self._template.ended.is_set():
            async with self._deploying:
                if self._template is None or self._template.ended.is_set():
                    self._template = await self._load(self.version.task)
                    self._report.worker_loaded(self.name, self.version.task.version, self._template.startup_cpu_us)
        template, limits = self._template, self.version.config.limits
        self._number += 1
        isolate = await template.fork(self._number, limits)
        self._isolates.add(isolate)
        isolate.tell(self._routes)
        self._nursery.start_soon(self._follow, isolate, template)
        with trio.move_on_after(STARTUP_MS / 1000):
            await _first_of(isolate.ready, isolate.dead)
        if isolate.ready.is_set():
            if template is not self._template:
                self._retire(isolate)
            return isolate
        isolate.retiring = True
        isolate.kill(f"it was not ready within {STARTUP_MS} ms")
        await isolate.dead.wait()
        detail = "" if isolate.failure is None else isolate.failure.detail
        raise ScriptError(f"cannot start worker {self.name}: {isolate.how_it_ended()}", detail)

    async def _load(self, task: MakeTemplate) -> TemplateHandle:
        """A template of a version, whose import is charged to the worker whether it succeeds or not."""
        outcome, cpu_us = Outcome.OK, 0
        try:
            template = await self._spawner.load(task)
            cpu_us = template.startup_cpu_us
            return template
        except ScriptError as error:
            outcome, cpu_us = Outcome.EXCEPTION, error.cpu_us
            raise
        finally:
            if cpu_us:
                self._charge(ChargeLost("worker", "startup", "import", cpu_us * 1000, 0.0, outcome))

    async def _follow(self, isolate: IsolateHandle, template: TemplateHandle) -> None:
        try:
            await isolate.run(self)
        finally:
            self._isolates.discard(isolate)
            if isolate in self._serving:
                self._serving.remove(isolate)
            self.members.dead(isolate)
            if isolate.lost is not None:
                self._charge(isolate.lost)
            template.users -= 1
            self._drop_if_unused(template)
        if isolate.ready.is_set() and not isolate.retiring and not self._stopping:
            reason = isolate.how_it_ended()
            delay_s = self._crashed(f"worker {self.name} keeps failing: {reason}", "", report=False)
            self._report.isolate_died(self.name, isolate.pid, reason, delay_s)
            # Not only connections need it: its actors may have timers.
            self._wanted = True
            self._announce()

    def _charge(self, used: ChargeLost) -> None:
        """Have an isolate put this into the ledger: the supervisor only reads the store."""
        if self._serving:
            self._serving[0].tell(used)
        else:
            self._uncharged.append(used)

    def _want(self) -> None:
        if not self._wanted:
            self._wanted = True
            self._announce()

    def _retire_all(self) -> None:
        self._wanted = False
        for isolate in list(self._serving):
            self._retire(isolate)

    def _retire(self, isolate: IsolateHandle) -> None:
        isolate.begin_retiring(self._grace_s)
        if isolate in self._serving:
            self._serving.remove(isolate)
        self.members.retiring(isolate)
        self._announce()
        self._nursery.start_soon(isolate.retire, self._grace_s)

    def _drop_if_unused(self, template: TemplateHandle | None) -> None:
        if template is not None and template is not self._template and template.users == 0:
            template.close()

    def _crashed(self, message: str, detail: str, *, report: bool = True) -> float:
        """Take note of a failed start or a crash; returns after how many seconds the next start is due."""
        delay_s = self._backoff.crashed(time.monotonic())
        if report or delay_s > _WAITED_FOR_S:
            self._set_failure(message, detail, time.monotonic() + delay_s, report=report)
        else:
            self._retry_at_s = time.monotonic() + delay_s
            self._announce()
        return delay_s

    def _set_failure(self, message: str, detail: str, retry_at_s: float, *, report: bool = True) -> None:
        self._failure = WorkerUnavailable(message, detail, 1)
        self._retry_at_s = retry_at_s
        if report and self._reported != (message, detail):
            self._reported = (message, detail)
            self._report.worker_failed(self.name, message, detail)
        self._announce()

    def _forget_failure(self) -> None:
        self._failure = None
        self._reported = None
        self._retry_at_s = 0.0
        self._backoff.reset()
        self._interrupt.set()
        self._interrupt = trio.Event()

    def _announce(self) -> None:
        """Have everybody who waits for an isolate look again."""
        self._changed.set()
        self._changed = trio.Event()


async def _first_of(*events: trio.Event) -> None:
    async with trio.open_nursery() as nursery:

        async def watch(event: trio.Event) -> None:
            await event.wait()
            nursery.cancel_scope.cancel()

        for event in events:
            nursery.start_soon(watch, event)
