"""Instances that are large: what they read of the store and keep in memory does not grow faster than they do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import trio
from workflow_world import open_world

from edge_runtime.store.api import Snapshot, Table
from edge_runtime.store.memory_store import MemoryStore
from edge_runtime.workers.entrypoints import WorkflowEntrypoint

EVENTS = 1000


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


def flow(run: Any) -> type[WorkflowEntrypoint]:
    class Flow(WorkflowEntrypoint):
        async def run(self, event: Any, step: Any) -> Any:
            return await run(event, step)

    return Flow


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
