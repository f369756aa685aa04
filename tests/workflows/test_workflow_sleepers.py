"""Very many instances that wait: what they leave in memory, and in which order they begin."""

from __future__ import annotations

import gc
from collections import Counter

import trio
from workflow_world import WORKER, WORKFLOW, World, open_world

from bindings.workflows.starts import Starts
from edge_runtime.actors.api import ActorKind
from edge_runtime.limits import STARTS_AT_ONCE_MAX, STARTS_KNOWN_MAX
from edge_runtime.workers.entrypoints import WorkflowEntrypoint
from edge_runtime.workflows.stored import instances
from edge_runtime.workflows.stored.instances import Status

YEAR_MS = 365 * 24 * 3600 * 1000


class Sleeper(WorkflowEntrypoint):
    async def run(self, event, step):
        await step.sleep("year", YEAR_MS)


def in_status(world: World, status: Status) -> list[str]:
    """Ids, in the order of creation."""
    with world.store.snapshot() as snapshot:
        return list(instances.ids(snapshot, WORKER, WORKFLOW, status, reverse=True))


async def create_many(world: World, count: int) -> list[str]:
    """All are created before the first has had time to begin."""

    async def fetch() -> list[str]:
        created = [world.namespace.createBatch([{} for _ in range(100)]) for _ in range(count // 100)]
        return [instance.id for batch in created for instance in await batch]

    return await world.handler(fetch)


async def all_rest(world: World, status: Status, count: int) -> None:
    while len(in_status(world, status)) < count or world.host.in_memory(ActorKind.WORKFLOW, WORKFLOW):
        await trio.sleep(0.1)


def objects_of_the_runtime() -> Counter[str]:
    gc.collect()
    return Counter(
        f"{type(found).__module__}.{type(found).__name__}"
        for found in gc.get_objects()
        if str(type(found).__module__).startswith(("edge_runtime.", "bindings.", "trio."))
    )


async def test_instances_that_sleep_for_a_year_leave_nothing_in_memory(autojump_clock: object) -> None:
    async with open_world(Sleeper) as world:
        await create_many(world, 100)
        await all_rest(world, Status.WAITING, 100)
        world.events.ended.clear()
        before = objects_of_the_runtime()
        await create_many(world, 300)
        await all_rest(world, Status.WAITING, 400)
        world.events.ended.clear()
        left = objects_of_the_runtime() - before
        # Parked tasks and the like are kept in small numbers, whatever there was to do.
        assert all(count < 50 for count in left.values()), f"300 more instances sleep and leave {left.most_common(5)}"
        assert world.host.next_due_ms == min(
            awaited.due_ms for id in in_status(world, Status.WAITING) for awaited in record_of(world, id).awaited
        )


def record_of(world: World, id: str) -> instances.InstanceRecord:
    with world.store.snapshot() as snapshot:
        record = instances.read(snapshot, instances.address_of(WORKER, WORKFLOW, id))
    assert record is not None
    return record


async def test_many_new_instances_begin_in_their_order_few_at_a_time(autojump_clock: object) -> None:
    begun: list[str] = []
    together: list[int] = []

    class Flow(WorkflowEntrypoint):
        async def run(self, event, step):
            begun.append(event.instanceId)
            together.append(len(world.host.in_memory(ActorKind.WORKFLOW, WORKFLOW)))
            await step.sleep("year", YEAR_MS)

    count = 3 * (STARTS_KNOWN_MAX // 100 + 1) * 100
    async with open_world(Flow) as world:
        created = await create_many(world, count)
        await all_rest(world, Status.WAITING, count)
    assert sorted(begun) == sorted(created)
    # Those that begin in one pass of the scheduler do so in any order.
    assert max(abs(place - begun.index(id)) for place, id in enumerate(created)) < 2 * STARTS_AT_ONCE_MAX
    assert max(together) <= 4 * STARTS_AT_ONCE_MAX, f"{max(together)} instances were in memory at once"


async def test_queued_instances_begin_after_a_crash_and_those_that_have_begun_or_are_delayed_do_not(
    autojump_clock: object,
) -> None:
    begun: list[str] = []

    class Flow(WorkflowEntrypoint):
        async def run(self, event, step):
            begun.append(event.instanceId)
            await step.sleep("year", YEAR_MS)

    async with open_world(Flow) as world:
        await world.create("sleeps")
        await world.settled("sleeps", "waiting")
        await world.create("late", delay="1 hour")

        async def create_and_die() -> None:
            await world.namespace.createBatch([{"id": f"queued-{number}"} for number in range(3)])
            store.append(world.store.crash())

        store: list = []
        await world.handler(create_and_die)
    begun.clear()
    async with open_world(Flow, store[0]) as world:
        starts = Starts(world.host, world.store, world.clock, WORKER, WORKFLOW)
        await starts.begin_queued()
        assert (await world.settled("queued-2", "waiting"))["status"] == "waiting"
        await world.settled("queued-0", "waiting")
        await world.settled("queued-1", "waiting")
        assert sorted(begun) == ["queued-0", "queued-1", "queued-2"]
        assert in_status(world, Status.QUEUED) == ["late"]
