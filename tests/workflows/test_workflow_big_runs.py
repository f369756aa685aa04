"""Instances that are large: what they read of the store and keep in memory does not grow faster than they do."""

from __future__ import annotations

import gc
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import trio
from workflow_world import WORKER, WORKFLOW, flow, open_world

from edge_runtime.actors.api import ActorKind
from edge_runtime.promise import Promise
from edge_runtime.store.api import Snapshot, Table
from edge_runtime.store.memory_store import MemoryStore
from edge_runtime.testing.surroundings import offload_inline
from edge_runtime.workflows.core.journal import StepKey, StepStarted, StepSucceeded
from edge_runtime.workflows.core.operation import Operation
from edge_runtime.workflows.stored import blocks

EVENTS = 1000
STEPS = 3000
LARGE_RESULTS = 40
LARGE = 512 * 1024


class CountingSnapshot:
    """Counts the rows that are read, by table."""

    def __init__(self, snapshot: Snapshot, rows: Counter[Table]) -> None:
        self._snapshot = snapshot
        self._rows = rows

    def get(self, table: Table, key: bytes) -> bytes | None:
        self._rows[table] += 1
        return self._snapshot.get(table, key)

    def scan(self, table: Table, *bounds: bytes, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        for pair in self._snapshot.scan(table, *bounds, reverse=reverse):
            self._rows[table] += 1
            yield pair

    def keys(self, table: Table, *bounds: bytes, reverse: bool = False) -> Iterator[bytes]:
        for key in self._snapshot.keys(table, *bounds, reverse=reverse):
            self._rows[table] += 1
            yield key


class CountingStore(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.rows: Counter[Table] = Counter()

    @contextmanager
    def snapshot(self) -> Iterator[CountingSnapshot]:
        with super().snapshot() as snapshot:
            yield CountingSnapshot(snapshot, self.rows)

    def get(self, table: Table, key: bytes) -> bytes | None:
        self.rows[table] += 1
        return super().get(table, key)


class Passes(trio.abc.Instrument):
    """Counts the passes of the event loop: in each, every task that is ready has its turn."""

    count = 0

    def before_io_wait(self, timeout: float) -> None:
        self.count += 1


async def test_queued_events_are_taken_in_order_with_a_few_rows_read_for_each(autojump_clock: object) -> None:
    async def run(event: Any, step: Any) -> bool:
        await step.wait_for_event("rest", "go")
        taken = [(await step.wait_for_event("number", "number")).payload for _ in range(EVENTS)]
        return taken == list(range(EVENTS))

    store = CountingStore()
    async with open_world(flow(run), store) as world:
        await world.create()
        await world.settled("one", "waiting")

        async def send_all() -> None:
            instance = await world.namespace.get("one")
            for promise in [instance.send_event({"type": "number", "payload": number}) for number in range(EVENTS)]:
                await promise

        store.rows.clear()
        await world.handler(send_all)
        await trio.sleep(1)
        assert world.describe().events_waiting == EVENTS
        await world.send("go")
        assert (await world.settled()).output is True
        assert world.describe().events_waiting == 0
    # Looking at it reads them all; besides, an event takes its own row and what the one before it has left.
    assert store.rows[Table.INBOX] <= 6 * EVENTS
    assert store.rows[Table.TIMERS] <= 10 * EVENTS


def live(*kinds: type) -> Counter[str]:
    gc.collect()
    return Counter(type(thing).__name__ for thing in gc.get_objects() if isinstance(thing, kinds))


async def test_finished_steps_leave_no_objects_behind_live_and_at_replay(autojump_clock: object) -> None:
    def name(number: int) -> str:
        return "step" if number % 2 else f"step {number}"

    seen: list[Counter[str]] = []
    passes = Passes()
    taken: list[int] = []

    async def run(event: Any, step: Any) -> list[int]:
        before = passes.count
        results = [await step.do(name(number), lambda number=number: number) for number in range(STEPS)]
        taken.append(passes.count - before)
        seen.append(live(Operation, StepStarted, StepSucceeded, StepKey, Promise))
        await step.wait_for_event("rest", "go")
        return results

    store = CountingStore()
    trio.lowlevel.add_instrument(passes)
    async with open_world(flow(run), store, idle_ms=1000, offload=offload_inline) as world:
        await world.create()
        await world.settled("one", "waiting")
        assert store.rows[Table.JOURNAL] < 10
        await trio.sleep(60)
        assert not world.host.in_memory(ActorKind.WORKFLOW, WORKFLOW)
        store.rows.clear()
        await world.send("go")
        assert (await world.settled()).output == list(range(STEPS))
    assert len(seen) == 2, "the script ran from the top again"
    # Others are not kept waiting until a replay has come to its end.
    assert taken[1] >= STEPS / 100
    for objects in seen:
        assert objects.total() < 100, objects
    # Each block is read when the journal is, and once more when the script asks for its step.
    assert store.rows[Table.JOURNAL] <= 3 * STEPS


async def test_replay_of_large_results_holds_those_that_the_script_holds(autojump_clock: object) -> None:
    held: list[int] = []

    async def run(event: Any, step: Any) -> None:
        for number in range(LARGE_RESULTS):
            await step.do(f"large {number}", lambda: b"x" * LARGE)
        held.append(tracemalloc.get_traced_memory()[0])
        await step.wait_for_event("rest", "go")

    store = MemoryStore()
    async with open_world(flow(run), store, idle_ms=1000) as world:
        await world.create()
        await world.settled("one", "waiting")
    async with open_world(flow(run), store) as world:
        tracemalloc.start()
        try:
            await world.send("go")
            await world.settled()
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert most < 10 * LARGE, f"{most} bytes at most, {held} at the wait"


async def test_restart_of_a_long_instance_keeps_blocks_that_are_quick_to_read(autojump_clock: object) -> None:
    async def run(event: Any, step: Any) -> int:
        total = 0
        for number in range(LARGE_RESULTS):
            total += len(await step.do(f"large {number}", lambda: b"x" * LARGE))
        return total + await step.do("last", lambda: 1)

    async with open_world(flow(run)) as world:
        await world.create()
        await world.settled()

        async def restart() -> None:
            await (await world.namespace.get("one")).restart({"from": {"name": "last"}})

        await world.handler(restart)
        assert (await world.settled()).output == LARGE_RESULTS * LARGE + 1
        start, end = blocks.key_range(WORKER, WORKFLOW, "one")
        with world.store.snapshot() as snapshot:
            assert max(len(value) for _, value in snapshot.scan(Table.JOURNAL, start, end)) < 2 * LARGE
