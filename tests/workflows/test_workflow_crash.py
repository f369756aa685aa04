"""Kill before and after every commit of a run: it completes by itself, recorded steps do not run again, the output is
the same each time."""

from __future__ import annotations

from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from killed_store import KilledStore, outlived
from seam_fakes import CountingRandomness
from workflow_world import WORKER, WORKFLOW, World, open_world

from bindings.workflows import KIND
from bindings.workflows.kind import WorkflowSpec
from edge_runtime.config.model import Binding
from edge_runtime.errors import StoreFailed
from edge_runtime.store.api import Batch, Table
from edge_runtime.store.memory_store import MemoryStore
from edge_runtime.testing.surroundings import JumpingClock
from edge_runtime.workers.entrypoints import WorkflowEntrypoint
from edge_runtime.workflows.core import journal
from edge_runtime.workflows.script.errors import WorkflowError
from edge_runtime.workflows.stored import blocks, instances

RETRY = {"retries": {"limit": 30, "delay": 1000, "backoff": "constant"}}
EXPECTED = {"a": 1, "bc": [2, 3], "skipped": None, "paid": {"n": 7}, "flaky": "ok", "timeout": "WorkflowTimeoutError"}


class Witness:
    """A log outside of the store: which bodies have begun."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.failures_left = 1


def order_flow(witness: Witness) -> type[WorkflowEntrypoint]:
    class Flow(WorkflowEntrypoint):
        async def run(self, event: Any, step: Any) -> Any:
            def body(name: str, value: Any) -> Any:
                async def run() -> Any:
                    witness.begun.append(f"{name}-1")
                    await trio.sleep(0.5)
                    return value

                return run

            async def flaky() -> str:
                witness.begun.append("flaky-1")
                if witness.failures_left:
                    witness.failures_left -= 1
                    raise OSError("busy")
                return "ok"

            result = {"a": await step.do("a", RETRY, body("a", 1))}
            pair = [step.do("b", RETRY, body("b", 2)), step.do("c", RETRY, body("c", 3))]
            result["bc"] = [await promise for promise in pair]
            result["skipped"] = await step.do("never", body("never", 0), when=result["a"] > 1)
            await step.sleep("nap", "1 minute")
            result["paid"] = (await step.wait_for_event("paid", "paid")).payload
            result["flaky"] = await step.do("flaky", RETRY, flaky)
            try:
                await step.wait_for_event("refund", "refund", timeout="1 minute")
            except Exception as error:
                result["timeout"] = error.name
            return result

    return Flow


async def client(world: World, state: dict[str, Any]) -> None:
    """Create once and send one event once, as a caller that repeats what was not acknowledged."""
    if not state.get("created"):
        with suppress(WorkflowError):  # it was created, and the process died before saying so
            await world.create()
        state["created"] = True
    if not state.get("sent"):
        await world.send("paid", {"n": 7})
        state["sent"] = True


async def live(store: KilledStore, witness: Witness, state: dict[str, Any], random: CountingRandomness) -> bool:
    """One process; True if it completed, False if it was killed."""
    async with open_world(order_flow(witness), store, idle_ms=1000, random=random) as world:

        async def work() -> None:
            await client(world, state)
            state["status"] = await world.settled()

        return await outlived(work, store)


def recorded(store: MemoryStore) -> set[str]:
    address = instances.address_of(WORKER, WORKFLOW, "one")
    with store.snapshot() as snapshot:
        record = instances.read(snapshot, address)
        if record is None:
            return set()
        entries = blocks.load(snapshot, WORKER, WORKFLOW, "one", record.seq).entries
    return {str(entry.key) for entry in entries if isinstance(entry, journal.StepSucceeded)}


async def complete(kills: list[tuple[int, bool]]) -> tuple[Any, int]:
    """Run to the end with these kills, one a process; the status and how many kills took place."""
    witness, state, random = Witness(), {}, CountingRandomness()
    store: KilledStore | None = None
    fixed: list[tuple[int, set[str]]] = []
    for at, after in [*kills, (1_000_000, True)]:
        store = KilledStore(at, after=after, before_it=store)
        if await live(store, witness, state, random):
            break
        fixed.append((len(witness.begun), recorded(store)))
    for begun, steps in fixed:
        again = steps.intersection(witness.begun[begun:])
        assert not again, f"recorded steps ran again: {again}"
    return state["status"], len(fixed)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_run_completes_when_killed_at_any_commit(autojump_clock: object, after: bool) -> None:
    at, kills = 0, 1
    while kills:
        at += 1
        status, kills = await complete([(at, after)])
        assert status == {"status": "complete", "output": EXPECTED, "error": None}, f"killed at commit {at}"
    assert at > 15


@pytest.mark.parametrize("step", [1, 2, 3])
async def test_run_completes_when_killed_again_and_again(autojump_clock: object, step: int) -> None:
    status, kills = await complete([(step, bool(number % 2)) for number in range(20)])
    assert status == {"status": "complete", "output": EXPECTED, "error": None}
    assert kills > 5


async def test_sleep_that_became_due_while_down_ends_at_once(autojump_clock: object) -> None:
    class Flow(WorkflowEntrypoint):
        async def run(self, event: Any, step: Any) -> str:
            await step.sleep("week", "1 week")
            return "awake"

    async with open_world(Flow) as world:
        await world.create()
        await world.settled("one", "waiting")
    week_ms = 7 * 24 * 3600 * 1000
    async with open_world(Flow, world.store.crash(), clock=JumpingClock(week_ms)) as world:
        start = trio.current_time()
        assert (await world.settled()).output == "awake"
        assert trio.current_time() - start < 1


async def test_new_process_goes_on_at_once_with_what_ran_when_the_last_one_died(autojump_clock: object) -> None:
    class Flow(WorkflowEntrypoint):
        async def run(self, event: Any, step: Any) -> str:
            await trio.sleep(3 if event.payload else 0)
            return "done"

    async with open_world(Flow) as world:
        await world.create(params={"slow": True})
        await trio.sleep(1)
        assert (await world.status()).status == "running"
    async with open_world(Flow, world.store.crash()) as world:
        start = trio.current_time()
        spec = WorkflowSpec(WORKER, WORKFLOW, "Flow", 100)
        runtime: Any = SimpleNamespace(
            worker=SimpleNamespace(name=WORKER, address=WORKER, pinned=None),
            store=world.store,
            clock=world.clock,
            actors=world.host,
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(KIND.serve, [Binding("workflows", "FLOW", spec)], runtime)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        await world.settled()
        assert trio.current_time() - start < 6


async def test_attempt_cut_by_a_crash_counts_and_one_cut_by_a_stop_does_not(autojump_clock: object) -> None:
    seen: list[int] = []

    class Flow(WorkflowEntrypoint):
        async def run(self, event: Any, step: Any) -> None:
            async def long(ctx: Any) -> None:
                seen.append(ctx.attempt)
                await trio.sleep(100 if len(seen) < 3 else 0)

            await step.do("long", RETRY, long)

    random = CountingRandomness()
    async with open_world(Flow, random=random) as world:
        await world.create()
        await trio.sleep(1)
    async with open_world(Flow, world.store.crash(), random=random) as world:
        await trio.sleep(20)
        await world.host.release()
    async with open_world(Flow, world.store.crash(), random=random) as world:
        await world.settled()
        attempts = world.describe().steps[0].attempts
    assert seen == [1, 2, 2]
    assert [(attempt.number, attempt.state) for attempt in attempts] == [
        (1, "failed"),
        (2, "interrupted"),
        (2, "succeeded"),
    ]
    assert attempts[0].error is not None
    assert attempts[0].error.message == "Attempt failed due to internal workflows error"


@pytest.mark.parametrize("orderly", [False, True])
async def test_step_that_runs_at_most_once_is_not_repeated(autojump_clock: object, orderly: bool) -> None:
    begun: list[int] = []

    class Flow(WorkflowEntrypoint):
        async def run(self, event: Any, step: Any) -> str:
            async def charge() -> None:
                begun.append(1)
                await trio.sleep(100)

            try:
                await step.do("charge", charge, at_most_once=True)
            except Exception as error:
                return error.name
            return "charged"

    random = CountingRandomness()
    async with open_world(Flow, random=random) as world:
        await world.create()
        await trio.sleep(1)
        if orderly:
            await world.host.release()
    async with open_world(Flow, world.store.crash(), random=random) as world:
        status = await world.settled()
    assert status.output == "StepInterrupted"
    assert begun == [1]


@pytest.mark.parametrize("damage", ["changed", "missing", "surplus"])
async def test_damaged_journal_ends_the_instance_with_the_reason(autojump_clock: object, damage: str) -> None:
    bodies: list[str] = []

    class Flow(WorkflowEntrypoint):
        async def run(self, event: Any, step: Any) -> None:
            await step.do("first", lambda: bodies.append("first"))
            await step.sleep("day", "1 day")

    async with open_world(Flow) as world:
        await world.create()
        await world.settled("one", "waiting")
        with world.store.snapshot() as snapshot:
            *_, key = snapshot.keys(Table.JOURNAL, *blocks.key_range(WORKER, WORKFLOW, "one"))
        batch = Batch()
        if damage == "changed":
            stored = world.store.get(Table.JOURNAL, key) or b""
            batch.put(Table.JOURNAL, key, stored[:-1] + bytes((stored[-1] ^ 1,)))
        elif damage == "missing":
            batch.delete(Table.JOURNAL, key)
        else:
            batch.put(Table.JOURNAL, blocks.key(WORKER, WORKFLOW, "one", 99), b"x" * 40)
        await world.store.commit(batch)
    async with open_world(Flow, world.store.crash(), clock=JumpingClock(86_400_000)) as world:
        status = await world.settled()
    assert status.status == "errored"
    assert status.error.name == "JournalBroken"
    assert "entry" in status.error.message or "entries" in status.error.message
    assert bodies == ["first"]


async def test_event_that_wakes_an_evicted_instance_is_taken_wherever_the_process_dies(autojump_clock: object) -> None:
    class Flow(WorkflowEntrypoint):
        async def run(self, event: Any, step: Any) -> Any:
            await trio.sleep(1)  # so that a replay comes to its waits long after the wake-up was heard
            return [(await step.wait_for_event(f"paid {n}", "paid")).payload for n in range(2)]

    async with open_world(Flow) as world:
        await world.create()
        await world.send("paid", 1)
        await trio.sleep(60)
        assert [wait.name for wait in world.describe().awaited] == ["paid 1-1"]
        resting = world.store.crash()

    at = 0
    killed = True
    while killed:
        at, killed = at + 1, False
        store = KilledStore(at, after=True, before_it=resting)
        sent = False
        async with open_world(Flow, store) as world, trio.open_nursery() as nursery:

            async def watch(world: World, scope: trio.CancelScope) -> None:
                nonlocal sent
                with suppress(StoreFailed):
                    await world.send("paid", 2)
                    sent = True
                    assert (await world.settled()).output == [1, 2]
                    scope.cancel()

            nursery.start_soon(watch, world, nursery.cancel_scope)
            await store.run()
            killed = True
            store.crash()
            nursery.cancel_scope.cancel()
        async with open_world(Flow, MemoryStore(image=store.crash()._image)) as world:
            if not sent:
                with suppress(WorkflowError):  # it was sent, and the process died before saying so
                    await world.send("paid", 2)
            with trio.fail_after(3600):
                assert (await world.settled()).output[:2] == [1, 2]
    assert at > 3
