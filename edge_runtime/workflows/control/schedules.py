"""Schedules of workflows: each is an actor with a timer, which creates an instance when due.

The instance and the next time are committed together, so each time has one instance, named after the schedule and the
time, however often the process dies. Times that passed while nothing ran give one instance together.
"""

from __future__ import annotations

from collections.abc import Mapping

from edge_runtime.actors import timers
from edge_runtime.actors.api import ActorAddress, ActorContext, ActorHost, ActorKind
from edge_runtime.config.cron import parse
from edge_runtime.errors import Conflict
from edge_runtime.seams import Clock
from edge_runtime.store.api import Batch, Store
from edge_runtime.workflows.control import creation
from edge_runtime.workflows.control.creation import NewInstance
from edge_runtime.workflows.script import payloads
from edge_runtime.workflows.stored import instances

_STALE_AT_ONCE = 1000


class ScheduleBody:
    """`actors.api.ActorBody` of one schedule; its address is (worker, workflow, cron expression)."""

    def __init__(self, context: ActorContext, crons: tuple[str, ...], version: str) -> None:
        self._context = context
        self._crons = crons
        self._version = version

    async def start(self) -> None:
        pass

    async def input_open(self) -> None:
        pass

    async def receive(self, message: object) -> object:
        return None

    async def timer(self) -> None:
        context, address = self._context, self._context.address
        cron, due_ms, now_ms = address.id, context.due_ms, context.clock.now_ms()
        batch = Batch()
        if cron not in self._crons:
            context.set_timer(batch, None)
        elif due_ms is not None and due_ms <= now_ms:
            self._create(batch, address, due_ms)
            context.set_timer(batch, parse(cron).next_after_ms(now_ms))
        await context.commit(batch)

    def _create(self, batch: Batch, address: ActorAddress, due_ms: int) -> None:
        context = self._context
        new = NewInstance(
            f"{address.id}-{due_ms}",
            payloads.encode({}),
            trigger="cron",
            cron=address.id,
            scheduled_ms=due_ms,
        )
        with context.store.snapshot() as snapshot:
            taken = instances.read(snapshot, instances.address_of(address.worker, address.namespace, new.id))
            if taken is None:
                creation.create(
                    batch,
                    snapshot,
                    address.worker,
                    address.namespace,
                    new,
                    clock=context.clock,
                    random=context.random,
                    version=self._version,
                )

    async def stop(self) -> None:
        pass

    @property
    def answering(self) -> bool:
        return False

    @property
    def idle(self) -> bool:
        return True


class _ScheduleFactory:
    idle_ms = 0

    def __init__(self, crons: tuple[str, ...], version: str) -> None:
        self._crons = crons
        self._version = version

    def __call__(self, context: ActorContext) -> ScheduleBody:
        return ScheduleBody(context, self._crons, self._version)


def register_schedules(host: ActorHost, worker: str, workflow: str, crons: tuple[str, ...], version: str) -> None:
    host.register(worker, ActorKind.SCHEDULE, workflow, _ScheduleFactory(crons, version))


async def keep_schedules(store: Store, clock: Clock, worker: str, wanted: Mapping[str, tuple[str, ...]]) -> None:
    """Set the timer of every schedule that has none, and clear those that `wanted` (crons by workflow) lacks.

    Tell the host afterwards. A time that passed while nothing ran stays due.
    """
    changes: list[tuple[ActorAddress, int | None]] = []
    with store.snapshot() as snapshot:
        for workflow, crons in wanted.items():
            for cron in crons:
                address = ActorAddress(worker, ActorKind.SCHEDULE, workflow, cron)
                record = timers.read_record(snapshot, address)
                if record is None or record.due_ms is None:
                    changes.append((address, parse(cron).next_after_ms(clock.now_ms())))
        for workflow in timers.scheduled_namespaces(snapshot, worker, ActorKind.SCHEDULE):
            known = timers.addresses(snapshot, worker, ActorKind.SCHEDULE, workflow, _STALE_AT_ONCE)
            changes += [(address, None) for address in known if address.id not in wanted.get(workflow, ())]
    for address, due_ms in changes:
        batch = Batch()
        with store.snapshot() as snapshot:
            timers.schedule(batch, snapshot, address, due_ms)
        try:
            await store.commit(batch)
        except Conflict:
            # It is firing just now, and sets or clears its timer itself.
            continue
