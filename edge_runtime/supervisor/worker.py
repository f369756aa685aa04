"""One worker under supervision: which version serves, by which isolate, and what happens when that fails.

At most one isolate of a worker takes new connections and owns its actors. A successor is started only when the one
before has released its actors or is dead; connections that arrive in between wait.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import trio

from edge_runtime.config.model import WorkerConfig
from edge_runtime.control import LogLine, MakeTemplate, Pong, Routes, RunScheduled, TimersChanged
from edge_runtime.errors import EdgeError, ScriptError, UsageError
from edge_runtime.limits import CRASH_BACKOFF_MAX_S, ISOLATE_IDLE_S, MEMORY_REPLACE_SHARE, START_WAIT_S, STARTUP_MS
from edge_runtime.supervisor.backoff import CrashBackoff
from edge_runtime.supervisor.isolate import IsolateHandle
from edge_runtime.supervisor.report import Report
from edge_runtime.supervisor.spawner import Spawner, TemplateHandle

_WAITED_FOR_S: Final = 1.0
"""A connection waits for a restart that is at most this far away, and is refused otherwise."""


@dataclass(frozen=True, slots=True)
class WorkerVersion:
    """A version as it is deployed: its configuration and what a template needs to load it."""

    config: WorkerConfig
    task: MakeTemplate


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
    pid: int | None
    retiring_pids: tuple[int, ...]
    connections: int
    events: int
    actors: int
    cpu_ms: int
    failure: str | None


class Worker:
    def __init__(
        self,
        version: WorkerVersion,
        spawner: Spawner,
        report: Report,
        *,
        grace_s: float,
        idle_s: float = ISOLATE_IDLE_S,
    ) -> None:
        self.version = version
        self._idle_s = idle_s
        self._spawner = spawner
        self._report = report
        self._grace_s = grace_s
        self._template: TemplateHandle | None = None
        self._current: IsolateHandle | None = None
        self._isolates: set[IsolateHandle] = set()
        self._wanted = trio.Event()
        self._changed = trio.Event()
        self._interrupt = trio.Event()
        self._backoff = CrashBackoff()
        self._failure: WorkerUnavailable | None = None
        self._retry_at_s = 0.0
        self._reported: tuple[str, str] | None = None
        self._starting = False
        self._stopping = False
        self._busy_at_s = 0.0
        self._number = 0
        self._routes = Routes(())
        self._deploying = trio.Lock()
        self._nursery: trio.Nursery

    @property
    def name(self) -> str:
        return self.version.config.name

    @property
    def asleep(self) -> bool:
        """No isolate runs or is being started: only a connection or a due timer will start one."""
        return self._current is None and not self._wanted.is_set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the worker as it is wanted, until cancelled; `stop` first for an orderly end."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            while True:
                await self._wanted.wait()
                await self._serve_a_term()

    def wake(self) -> None:
        """Have an isolate started unless one runs or a failure is too fresh."""
        if self._current is None and not self._stopping and time.monotonic() >= self._retry_at_s:
            self._wanted.set()

    async def isolate(self) -> IsolateHandle:
        """The isolate that takes new connections, started if there is none. Raises WorkerUnavailable."""
        asked = False
        with trio.move_on_after(START_WAIT_S):
            while True:
                now_s = time.monotonic()
                if self._stopping:
                    raise WorkerUnavailable("the server is shutting down", "", 1)
                if self._current is not None:
                    self._busy_at_s = now_s
                    return self._current
                if self._failure is not None and (asked or now_s < self._retry_at_s):
                    raise WorkerUnavailable(str(self._failure), self._failure.detail, self._retry_at_s - now_s)
                asked = True
                self._failure = None
                self._wanted.set()
                await self._changed.wait()
        raise WorkerUnavailable(f"worker {self.name} did not start within {START_WAIT_S:g} s", "", START_WAIT_S)

    async def replace(self, version: WorkerVersion) -> None:
        """Serve another version from now on.

        It is loaded first; if that fails, ScriptError is raised and the version before goes on serving. Then the old
        isolate releases its actors, keeps its open connections for the grace, and ends.
        """
        async with self._deploying:
            template = await self._spawner.load(version.task)
            old, self._template = self._template, template
            self.version = version
            self._forget_failure()
            self._report.worker_loaded(self.name, version.task.version, template.startup_cpu_us)
            if self._current is not None:
                self._retire(self._current)
            self._wanted.set()
            self._drop_if_unused(old)

    def fail(self, message: str, detail: str) -> None:
        """In development: what is on disk now cannot be served, so nothing is until it has been replaced."""
        if self._current is not None:
            self._retire(self._current)
        self._set_failure(message, detail, math.inf)

    async def stop(self) -> None:
        """Drain: take no more connections, end the isolates within the grace, and the template."""
        self._stopping = True
        self._announce()
        self._interrupt.set()
        async with trio.open_nursery() as nursery:
            for isolate in self._isolates:
                nursery.start_soon(isolate.retire, self._grace_s)
        template, self._template = self._template, None
        if template is not None:
            template.close()
            await template.gone()

    def abandon(self) -> None:
        """End `run` at once, for a worker that never served."""
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
            isolate.channel.send_soon(routes)

    def timers_changed(self) -> None:
        if self._current is not None:
            self._current.channel.send_soon(TimersChanged())

    async def run_scheduled(self, cron: str, scheduled_ms: int) -> None:
        """Have a cron trigger fired. Raises UsageError if the worker has no such trigger, WorkerUnavailable."""
        crons = self.version.config.crons
        if cron not in crons:
            allowed = ", ".join(map(repr, crons)) or "none"
            raise UsageError(f"worker {self.name} has no trigger {cron!r}; allowed: {allowed}")
        isolate = await self.isolate()
        await isolate.channel.send(RunScheduled(cron, scheduled_ms))

    def status(self) -> WorkerStatus:
        current = self._current
        pong = None if current is None else current.last_pong
        if current is not None:
            state = WorkerState.SERVING
        elif self._failure is not None:
            state = WorkerState.FAILED
        else:
            state = WorkerState.STARTING if self._starting else WorkerState.IDLE
        return WorkerStatus(
            name=self.name,
            version=self.version.task.version,
            state=state,
            pid=None if current is None else current.pid,
            retiring_pids=tuple(isolate.pid for isolate in self._isolates if isolate is not current),
            connections=0 if pong is None else pong.connections,
            events=0 if pong is None else pong.events,
            actors=0 if pong is None else pong.actors,
            cpu_ms=0 if current is None else current.cpu_ms(),
            failure=None if self._failure is None else str(self._failure),
        )

    # What isolates report (IsolateOwner).

    def isolate_logged(self, lines: tuple[LogLine, ...]) -> None:
        for line in lines:
            self._report.log(self.name, line)

    def isolate_answered(self, isolate: IsolateHandle, pong: Pong) -> None:
        """Evict an isolate that has had nothing to do for `idle_s` and will not have soon, and one whose memory is
        about to run out, before it fails in every request."""
        now_s = time.monotonic()
        allowed_mb = self.version.config.limits.memory_mb
        if isolate is self._current and (used_mb := isolate.memory_mb()) > allowed_mb * MEMORY_REPLACE_SHARE:
            self._report.notice(
                f"{self.name}: isolate {isolate.pid} is replaced: it uses {used_mb} of edge.memory_mb = {allowed_mb} MB"
            )
            self._retire(isolate)
            return
        if pong.connections or pong.events or pong.actors:
            self._busy_at_s = now_s
            return
        due_soon = pong.next_due_ms is not None and pong.next_due_ms - time.time() * 1000 < self._idle_s * 1000
        if isolate is self._current and not due_soon and now_s - self._busy_at_s >= self._idle_s:
            self._retire(isolate)

    # One isolate after the other.

    async def _serve_a_term(self) -> None:
        """Start an isolate and return when it takes no more connections."""
        delay_s = self._retry_at_s - time.monotonic()
        if delay_s > 0:
            self._interrupt = trio.Event()
            with trio.move_on_after(delay_s):
                await self._interrupt.wait()
        if self._stopping:
            self._wanted = trio.Event()
            return
        self._starting = True
        self._failure = None
        try:
            isolate = await self._start()
        except ScriptError as error:
            self._wanted = trio.Event()
            self._crashed(str(error), error.detail)
            return
        finally:
            self._starting = False
        if isolate.dead.is_set() or isolate.retiring:
            return
        self._wanted = trio.Event()
        self._busy_at_s = time.monotonic()
        self._current = isolate
        self._announce()
        await isolate.leaving.wait()
        self._current = None
        self._announce()

    async def _start(self) -> IsolateHandle:
        """A new isolate that has said it is ready (it may have died since). Raises ScriptError."""
        for isolate in list(self._isolates):
            await isolate.released.wait()
        if self._template is None or self._template.ended.is_set():
            async with self._deploying:
                if self._template is None or self._template.ended.is_set():
                    self._template = await self._spawner.load(self.version.task)
                    self._report.worker_loaded(self.name, self.version.task.version, self._template.startup_cpu_us)
        template, limits = self._template, self.version.config.limits
        self._number += 1
        isolate = await template.fork(self._number, blocked_ms=limits.blocked_ms, cpu_ms=limits.cpu_ms)
        self._isolates.add(isolate)
        isolate.channel.send_soon(self._routes)
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

    async def _follow(self, isolate: IsolateHandle, template: TemplateHandle) -> None:
        try:
            await isolate.run(self)
        finally:
            self._isolates.discard(isolate)
            template.users -= 1
            self._drop_if_unused(template)
        if isolate.ready.is_set() and not isolate.retiring and not self._stopping:
            reason = isolate.how_it_ended()
            delay_s = self._crashed(f"worker {self.name} keeps failing: {reason}", "", report=False)
            self._report.isolate_died(self.name, isolate.pid, reason, delay_s)
            # Not only connections need it: its actors may have timers.
            self._wanted.set()

    def _retire(self, isolate: IsolateHandle) -> None:
        isolate.begin_retiring(self._grace_s)
        if isolate is self._current:
            self._current = None
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
