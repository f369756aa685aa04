"""Who may run: the limit per workflow, the order of the queue, schedules. Through the binding kind, as an isolate has
it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from workflow_world import (
    WORKER,
    WORKFLOW,
    CountingRandomness,
    JumpingClock,
    World,
)

from bindings.workflows import KIND
from bindings.workflows.kind import WorkflowSpec
from edge_runtime.actors.host import LocalActorHost
from edge_runtime.config.model import Binding, Where
from edge_runtime.errors import ConfigError
from edge_runtime.isolate.trio_flavour import TrioFlavour
from edge_runtime.store.memory_store import MemoryStore
from edge_runtime.testing.surroundings import EPOCH_MS, RecordedEvents, offload_inline
from edge_runtime.workers.entrypoints import WorkflowEntrypoint
from edge_runtime.workflows.stored import instances
from edge_runtime.workflows.stored.instances import Status

MINUTE_MS = 60_000


class KindWorld(World):
    def __init__(
        self,
        nursery: trio.Nursery,
        entrypoint: Any,
        store: MemoryStore,
        clock: JumpingClock,
        random: Any,
        spec: WorkflowSpec,
    ) -> None:
        self.store, self.clock = store, clock
        self.events = RecordedEvents(nursery, TrioFlavour())
        self.host = LocalActorHost(store, clock, random, offload_inline, self.events, WORKER)
        self.binding = Binding("workflows", "FLOW", spec)
        self.runtime: Any = SimpleNamespace(
            worker=SimpleNamespace(
                name=WORKER,
                address=WORKER,
                pinned=None,
                drift="strict",
                workflow_version="newest",
                flag=lambda *names: True,
            ),
            version="v1",
            store=store,
            clock=clock,
            random=random,
            actors=self.host,
            exports={"Flow": entrypoint},
            env=None,
        )
        self.namespace = KIND.build(self.binding, self.runtime)

    def ids(self, status: Status) -> list[str]:
        with self.store.snapshot() as snapshot:
            return list(instances.ids(snapshot, WORKER, WORKFLOW, status))


@asynccontextmanager
async def process(
    entrypoint: type[WorkflowEntrypoint],
    store: MemoryStore | None = None,
    *,
    running_max: int | None = None,
    crons: tuple[str, ...] = (),
    shift_ms: int = 0,
    random: CountingRandomness | None = None,
) -> AsyncIterator[KindWorld]:
    spec = WorkflowSpec(WORKER, WORKFLOW, "Flow", 100, running_max, crons)
    async with trio.open_nursery() as nursery:
        kept = MemoryStore() if store is None else store
        world = KindWorld(nursery, entrypoint, kept, JumpingClock(shift_ms), random or CountingRandomness(), spec)
        await nursery.start(world.host.run)
        nursery.start_soon(KIND.serve, [world.binding], world.runtime)
        yield world
        nursery.cancel_scope.cancel()


class Gauge:
    """Which instances run, in which order they began."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.running = 0
        self.most = 0

    async def work(self, id: str, seconds: float) -> None:
        self.begun.append(id)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await trio.sleep(seconds)
        finally:
            self.running -= 1


def working(gauge: Gauge, *, sleeps: bool = False) -> type[WorkflowEntrypoint]:
    class Flow(WorkflowEntrypoint):
        async def run(self, event: Any, step: Any) -> None:
            async def work() -> None:
                await gauge.work(event.instanceId, 10)

            await step.do("before", work)
            if sleeps:
                await step.sleep("nap", "65 seconds")
                await step.do("after", work)

    return Flow


async def test_no_more_run_than_the_limit_and_the_oldest_is_next(autojump_clock: object) -> None:
    gauge = Gauge()
    async with process(working(gauge), running_max=2) as world:
        for number in range(7):
            await world.create(f"i{number}")
            await trio.sleep(0.01)
        await trio.sleep(1)
        assert len(world.ids(Status.RUNNING)) == 2
        assert len(world.ids(Status.QUEUED)) == 5
        await world.settled("i6")
    assert gauge.most == 2
    assert gauge.begun == [f"i{number}" for number in range(7)]


async def test_waiting_instances_do_not_count_and_go_on_before_new_ones(autojump_clock: object) -> None:
    gauge = Gauge()
    async with process(working(gauge, sleeps=True), running_max=1) as world:
        for number in range(9):
            await world.create(f"i{number}")
            await trio.sleep(0.01)
        await trio.sleep(84)
        # i0 woke after 75 s and went on as soon as the one that ran then was done.
        assert gauge.begun == [*(f"i{number}" for number in range(8)), "i0"]
        assert (await world.status("i2")).status == "waiting"
        for number in range(9):
            await world.settled(f"i{number}")
    assert gauge.most == 1
    assert sorted(gauge.begun) == sorted(2 * [f"i{number}" for number in range(9)])


async def test_woken_instance_that_must_wait_for_its_turn_is_queued(autojump_clock: object) -> None:
    gauge = Gauge()

    class Flow(WorkflowEntrypoint):
        async def run(self, event: Any, step: Any) -> None:
            if event.payload == "waits":
                await step.wait_for_event("go", "go")

            async def work() -> None:
                await gauge.work(event.instanceId, 100)

            await step.do("work", work)

    async with process(Flow, running_max=1) as world:
        await world.create("waiter", "waits")
        await world.settled("waiter", "waiting")
        await world.create("worker")
        await trio.sleep(1)
        await world.send("go", id="waiter")
        await trio.sleep(1)
        assert (await world.status("waiter")).status == "queued"
        await world.settled("waiter")
    assert gauge.begun == ["worker", "waiter"]
    assert gauge.most == 1


async def test_resumed_instance_waits_for_its_turn_and_commands_reach_queued_ones(autojump_clock: object) -> None:
    gauge = Gauge()

    async def call(world: World, id: str, name: str) -> None:
        async def fetch() -> None:
            await getattr(await world.namespace.get(id), name)()

        await world.handler(fetch)

    async with process(working(gauge, sleeps=True), running_max=1) as world:
        await world.create("a")
        await world.settled("a", "waiting")
        await call(world, "a", "pause")
        for id in ("b", "c", "d"):
            await world.create(id)
            await trio.sleep(0.01)
        await call(world, "a", "resume")
        assert (await world.status("a")).status == "queued"
        await call(world, "c", "terminate")
        await call(world, "d", "pause")
        assert (await world.status("c")).status == "terminated"
        assert (await world.status("d")).status == "paused"
        await world.settled("a")
        await world.settled("b")
        assert gauge.begun.count("d") == 0
        await call(world, "d", "resume")
        await world.settled("d")
    assert gauge.begun.count("c") == 0
    assert gauge.most == 1


async def test_limit_and_order_hold_across_crashes(autojump_clock: object) -> None:
    gauge, random = Gauge(), CountingRandomness()
    store = MemoryStore()
    ids = [f"i{number}" for number in range(6)]
    async with process(working(gauge), store, running_max=2, random=random) as world:
        for id in ids:
            await world.create(id)
            await trio.sleep(0.01)
        await trio.sleep(1)
    begun = len(gauge.begun)
    async with process(working(gauge), store.crash(), running_max=2, random=random) as world:
        for id in ids:
            await world.settled(id)
    assert gauge.most == 2
    # Two begin at a time, in no particular order.
    fresh = [id for id in gauge.begun[begun:] if id not in ("i0", "i1")]
    assert [sorted(fresh[:2]), sorted(fresh[2:])] == [["i2", "i3"], ["i4", "i5"]]


async def test_schedule_creates_an_instance_each_time_with_its_schedule(autojump_clock: object) -> None:
    seen: list[Any] = []

    class Flow(WorkflowEntrypoint):
        async def run(self, event: Any, step: Any) -> None:
            seen.append((event.instanceId, event.schedule.cron, event.schedule.scheduledTime, event.payload))

    async with process(Flow, crons=("*/30 * * * *",)) as world:
        await trio.sleep(2 * 3600)
    first = (EPOCH_MS // (30 * MINUTE_MS) + 1) * 30 * MINUTE_MS
    times = [first + number * 30 * MINUTE_MS for number in range(4)]
    assert seen == [(f"*/30 * * * *-{time}", "*/30 * * * *", time, {}) for time in times]
    with world.store.snapshot() as snapshot:
        address = instances.address_of(WORKER, WORKFLOW, seen[0][0])
        record = instances.read(snapshot, address)
    assert record is not None
    assert record.status is Status.COMPLETE


async def test_schedule_missed_while_down_fires_once_and_a_removed_one_never(autojump_clock: object) -> None:
    seen: list[str] = []

    class Flow(WorkflowEntrypoint):
        async def run(self, event: Any, step: Any) -> None:
            seen.append(event.schedule.cron)

    random = CountingRandomness()
    async with process(Flow, crons=("*/30 * * * *", "15 * * * *"), random=random) as world:
        await trio.sleep(1)
    down_ms = 10 * 3600 * 1000
    async with process(Flow, world.store.crash(), crons=("*/30 * * * *",), shift_ms=down_ms, random=random) as world:
        await trio.sleep(1)
        assert seen == ["*/30 * * * *"]
        await trio.sleep(3600)
    assert seen == 3 * ["*/30 * * * *"]


@pytest.mark.parametrize(
    ("change", "at"),
    [
        ({"concurrency": {"limit": 0}}, "workflows[0].concurrency.limit"),
        ({"concurrency": {"limit": "many"}}, "workflows[0].concurrency.limit"),
        ({"schedules": "61 * * * *"}, "workflows[0].schedules"),
        ({"schedules": ["* * * * *", "nonsense"]}, "workflows[0].schedules[1]"),
        ({"schedules": "* * * * *", "script_name": "other"}, "workflows[0].schedules"),
    ],
)
def test_wrong_admission_settings_are_refused_with_their_place(change: dict[str, Any], at: str) -> None:
    item = {"name": "order-flow", "binding": "ORDERS", "class_name": "OrderFlow", **change}
    with pytest.raises(ConfigError) as caught:
        list(KIND.parse({"workflows": [item]}, "shop", Where("wrangler.toml")))
    assert caught.value.at == at
