"""The living isolates of one worker: which of them take new connections, in turn, and whether they are idle."""

from __future__ import annotations

import time

from edge_runtime.control import ActorDeaths, ChargeLost, Pong, Routes, TimersChanged
from edge_runtime.limits import ISOLATE_GROWN_MB
from edge_runtime.supervisor.culprits import Blame, Culprits
from edge_runtime.supervisor.isolate import IsolateHandle
from edge_runtime.supervisor.members import MemberIsolates
from edge_runtime.supervisor.worker_records import WorkerState, WorkerStatus, WorkerUnavailable, WorkerVersion


class IsolateGroup:
    def __init__(self, worker: str, idle_s: float, idle_grown_s: float) -> None:
        """`idle_s`: without connection, event or timer soon due, before the isolates are evicted; `idle_grown_s`: the
        same where one holds much memory that it has no use for any more and cannot return in part."""
        self.members = MemberIsolates(worker)
        self.serving: list[IsolateHandle] = []
        self.living: set[IsolateHandle] = set()
        """Those that start or retire as well."""
        self._idle_s = idle_s
        self._idle_grown_s = min(idle_s, idle_grown_s)
        self._turn = 0
        self._busy_at_s = 0.0
        self._routes = Routes(())
        self._uncharged: list[ChargeLost] = []
        self._culprits = Culprits()

    def next(self) -> IsolateHandle:
        """The serving isolate whose turn it is to take a connection."""
        self._busy_at_s = time.monotonic()
        self._turn += 1
        return self.serving[self._turn % len(self.serving)]

    def forked(self, isolate: IsolateHandle) -> None:
        self.living.add(isolate)
        isolate.tell(self._routes)
        if deaths := self._culprits.deaths:
            isolate.tell(ActorDeaths(deaths))

    def joined(self, isolate: IsolateHandle) -> None:
        """It serves from now on."""
        self._busy_at_s = time.monotonic()
        self.serving.append(isolate)
        self.members.joined(isolate)
        uncharged, self._uncharged = self._uncharged, []
        for charge in uncharged:
            isolate.tell(charge)

    def retiring(self, isolate: IsolateHandle) -> None:
        if isolate in self.serving:
            self.serving.remove(isolate)
        self.members.retiring(isolate)

    def put_off(self, found: Blame, reason: str) -> None:
        """Have the actors left alone for a while whose code has ended an isolate. Before that isolate is `dead`: then
        they go to others."""
        deaths = self._culprits.ended(found, reason, time.monotonic(), int(time.time() * 1000))
        for isolate in self.living if deaths else ():
            isolate.tell(ActorDeaths(deaths))

    def forget_deaths(self) -> None:
        """Another version serves."""
        self._culprits.forget()

    def dead(self, isolate: IsolateHandle) -> None:
        self.living.discard(isolate)
        if isolate in self.serving:
            self.serving.remove(isolate)
        self.members.dead(isolate)

    def charge(self, used: ChargeLost) -> None:
        """Have an isolate put this into the ledger, or the next that serves: the supervisor only reads the store."""
        if self.serving:
            self.serving[0].tell(used)
        else:
            self._uncharged.append(used)

    def routes_changed(self, routes: Routes) -> None:
        """Tell the isolates, those to come as well."""
        self._routes = routes
        for isolate in self.living:
            isolate.tell(routes)

    def timers_changed(self) -> None:
        for isolate in self.serving:
            isolate.tell(TimersChanged())

    async def list_objects(self, namespace: str) -> list[str]:
        return sorted({id for isolate in tuple(self.living) for id in await isolate.list_objects(namespace)})

    def status(self, version: WorkerVersion, failure: WorkerUnavailable | None, *, starting: bool) -> WorkerStatus:
        serving = self.serving
        pongs = [isolate.last_pong for isolate in serving if isolate.last_pong is not None]
        if serving:
            state = WorkerState.SERVING
        elif failure is not None:
            state = WorkerState.FAILED
        else:
            state = WorkerState.STARTING if starting else WorkerState.IDLE
        return WorkerStatus(
            name=version.config.address,
            version=version.task.version,
            state=state,
            pids=tuple(isolate.pid for isolate in serving),
            retiring_pids=tuple(isolate.pid for isolate in self.living if isolate not in serving),
            connections=sum(pong.connections for pong in pongs),
            events=sum(pong.events for pong in pongs),
            actors=sum(pong.actors for pong in pongs),
            cpu_ms=sum(isolate.cpu_ms() for isolate in serving),
            failure=None if failure is None else str(failure),
        )

    def idle_after(self, isolate: IsolateHandle, pong: Pong) -> bool:
        """Whether, with what one says now, all have had nothing to do for so long that they can be evicted, and will
        not have soon."""
        now_s = time.monotonic()
        if _busy(pong):
            self._busy_at_s = now_s
            return False
        idle_s = self._idle_grown_s if isolate.grown_mb() >= ISOLATE_GROWN_MB else self._idle_s
        if pong.next_due_ms is not None and pong.next_due_ms - time.time() * 1000 < idle_s * 1000:
            self._busy_at_s = max(self._busy_at_s, now_s - idle_s / 2)
            return False
        return (
            isolate in self.serving
            and now_s - self._busy_at_s >= idle_s
            and all(each.last_pong is not None and not _busy(each.last_pong) for each in self.serving)
        )


def _busy(pong: Pong) -> bool:
    # What others call over links of their own is short, and in progress at hardly any ping.
    return bool(pong.connections or pong.events or pong.actors or pong.used)
