"""Nothing that a step recorded is seen by the script before the commit that covers it, on a store that commits one
batch at a time."""

from __future__ import annotations

from typing import Any

import trio
from workflow_world import WORKER, WORKFLOW, World, open_world

from edge_runtime.store.memory_store import MemoryStore
from edge_runtime.workers.entrypoints import WorkflowEntrypoint
from edge_runtime.workers.workflows import NonRetryableError
from edge_runtime.workflows.control import asking
from edge_runtime.workflows.core import journal
from edge_runtime.workflows.core.journal import EventReceived, StepFailed, StepSucceeded
from edge_runtime.workflows.script.errors import WorkflowError
from edge_runtime.workflows.stored import blocks, instances

TURNS_MAX = 1000


def flow(seen: list[str], begun: list[str]) -> type[WorkflowEntrypoint]:
    """A run that takes note of each result as it gets it, and of each body that begins."""

    class Flow(WorkflowEntrypoint):
        async def run(self, event: Any, step: Any) -> str:
            async def quick() -> str:
                return "quick"

            async def slow() -> str:
                await trio.sleep(0.5)
                return "slow"

            async def once() -> str:
                begun.append("once-1")
                return "once"

            async def fails() -> None:
                raise NonRetryableError("no")

            await step.do("quick", quick)
            seen.append("quick-1")
            both = [step.do("slow", slow), step.do("quick", quick)]
            for name, promise in zip(("slow-1", "quick-2"), both, strict=True):
                await promise
                seen.append(name)
            await step.now()
            seen.append("now()-1")
            try:
                await step.do("fails", fails)
            except NonRetryableError:
                seen.append("fails-1")
            await step.do("once", once, at_most_once=True)
            seen.append("once-1")
            await step.sleep("nap", 500)
            seen.append("nap-1")
            await step.wait_for_event("paid", "paid")
            seen.append("paid-1")
            return "done"

    return Flow


def durable(world: World) -> tuple[set[str], set[str], str]:
    """The steps that are over, those that have begun, and the status, as they would be found after a crash."""
    address = instances.address_of(WORKER, WORKFLOW, "one")
    with world.store.snapshot() as snapshot:
        try:
            record = asking.find(snapshot, address)
        except WorkflowError:
            return set(), set(), ""
        entries = blocks.load(snapshot, WORKER, WORKFLOW, "one", record.seq).entries
    over = {str(entry.key) for entry in entries if isinstance(entry, StepSucceeded | StepFailed | EventReceived)}
    begun = {str(entry.key) for entry in entries if isinstance(entry, journal.StepStarted)}
    return over, begun, record.status.value


async def commit_one_by_one(world: World, seen: list[str], begun: list[str]) -> None:
    """Let everything run as far as it gets before each commit; return when the instance is over."""
    for _ in range(TURNS_MAX):
        await trio.testing.wait_all_tasks_blocked()
        over, started, status = durable(world)
        assert set(seen) <= over
        assert set(begun) <= started
        if status == "complete":
            return
        if world.store.queued:
            world.store.commit_group(1)
        else:
            await trio.sleep(0.1)
    raise AssertionError(f"not over after {TURNS_MAX} turns: {seen}")


async def test_a_result_is_seen_once_it_is_durable_and_not_before(autojump_clock: object) -> None:
    seen: list[str] = []
    begun: list[str] = []

    async def send(world: World) -> None:
        while durable(world)[2] != "waiting" or "nap-1" not in seen:
            await trio.sleep(0.1)
        await world.send("paid")

    async with open_world(flow(seen, begun), MemoryStore(manual=True)) as world, trio.open_nursery() as nursery:
        nursery.start_soon(world.create)
        nursery.start_soon(send, world)
        await commit_one_by_one(world, seen, begun)
    assert seen == ["quick-1", "slow-1", "quick-2", "now()-1", "fails-1", "once-1", "nap-1", "paid-1"]


async def test_nothing_more_is_seen_once_a_commit_has_failed(autojump_clock: object) -> None:
    seen: list[str] = []
    store = MemoryStore(manual=True)
    async with open_world(flow(seen, []), store) as world, trio.open_nursery() as nursery:
        nursery.start_soon(world.create)
        for _ in range(TURNS_MAX):
            await trio.testing.wait_all_tasks_blocked()
            if seen and store.queued:
                break
            if not store.commit_group(1):
                await trio.sleep(0.1)
        before = list(seen)
        assert before == ["quick-1"]
        store.fail()
        await trio.sleep(60)
        assert seen == before
        nursery.cancel_scope.cancel()
