"""Old rows of the ledger become fewer, and nothing of what they say is lost before its time."""

from __future__ import annotations

import pytest
from seam_fakes import SetClock

from edge_runtime.errors import Conflict
from edge_runtime.limits import LEDGER_DAYS_KEPT, LEDGER_HOURS_KEPT_DAYS
from edge_runtime.metering.compaction import compact
from edge_runtime.metering.ledger import HOUR_MS, Ledger, ProcessCpu, read_processes, read_usage
from edge_runtime.metering.tally import Owner, PrivateSegments
from edge_runtime.store.memory_store import MemoryStore, open_memory_store

DAY_MS = 24 * HOUR_MS
TODAY = 20_000 * DAY_MS


async def use(store: MemoryStore, days_ago: int, hour: int, isolate: str = "1-1", worker: str = "shop") -> None:
    clock = SetClock(TODAY - days_ago * DAY_MS + hour * HOUR_MS)
    ledger = Ledger(store, clock, Owner(worker, "v1", isolate, 0), PrivateSegments())
    ledger.charge("fetch", "f", 1_000, 1, "exceededCpu", {"kv_reads": 2})
    ledger.charge_process(ProcessCpu(kernel_ns=5, attributed_ns=3, loop_ns=2))
    await ledger.flush()


async def compacted(store: MemoryStore) -> bool:
    with store.snapshot() as snapshot:
        batch = compact(snapshot, "shop", TODAY)
    await store.commit(batch)
    return bool(batch)


async def test_old_hours_become_days_and_recent_ones_stay() -> None:
    old, recent = LEDGER_HOURS_KEPT_DAYS + 2, LEDGER_HOURS_KEPT_DAYS - 1
    async with open_memory_store() as store:
        for hour in (0, 3, 20):
            await use(store, old, hour, isolate=f"{hour}-1")
            await use(store, recent, hour)
            await use(store, old, hour, worker="shop2")
        assert await compacted(store)
        with store.snapshot() as snapshot:
            rows = read_usage(snapshot, worker="shop")
            accounts = read_processes(snapshot, worker="shop", to_ms=TODAY - recent * DAY_MS)
            others = read_usage(snapshot, worker="shop2")
        first = rows[0]
        assert (first.hour_ms, first.events, first.cpu_us) == (TODAY - old * DAY_MS, 3, 3)
        assert (first.quantities, first.errors) == ({"kv_reads": 6}, {"exceededCpu": 3})
        assert len(rows) == 4
        assert len(others) == 3
        (account,) = accounts
        assert account.cpu == ProcessCpu(kernel_ns=15, attributed_ns=9, loop_ns=6)
        assert not await compacted(store)


async def test_rows_of_long_ago_are_removed() -> None:
    async with open_memory_store() as store:
        await use(store, LEDGER_DAYS_KEPT + 2, 0)
        await use(store, LEDGER_DAYS_KEPT - 2, 0)
        await compacted(store)
        with store.snapshot() as snapshot:
            (row,) = read_usage(snapshot, worker="shop")
        assert row.hour_ms == TODAY - (LEDGER_DAYS_KEPT - 2) * DAY_MS


async def test_two_isolates_that_compact_at_once_count_nothing_twice() -> None:
    async with open_memory_store() as store:
        await use(store, LEDGER_HOURS_KEPT_DAYS + 2, 5)
        with store.snapshot() as snapshot:
            batches = [compact(snapshot, "shop", TODAY) for _ in range(2)]
        await store.commit(batches[0])
        with pytest.raises(Conflict):
            await store.commit(batches[1])
        with store.snapshot() as snapshot:
            (row,) = read_usage(snapshot, worker="shop")
        assert row.events == 1
