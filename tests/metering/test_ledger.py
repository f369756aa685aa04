"""Usage gathers in memory, is added up in the store by hour, and is read back by worker and handler."""

from __future__ import annotations

import pytest
from seam_fakes import SetClock

from edge_runtime.errors import StoreFailed
from edge_runtime.metering.grouping import group_rows
from edge_runtime.metering.ledger import HOUR_MS, Ledger, ProcessCpu, UsageRow, read_processes, read_usage
from edge_runtime.metering.tally import Owner, PrivateSegments
from edge_runtime.store.api import Store
from edge_runtime.store.memory_store import FailingStore, MemoryStore, open_memory_store

NOON = 500_000 * HOUR_MS


def ledger_on(store: Store, at_ms: int = NOON, worker: str = "shop", version: str = "v1") -> Ledger:
    return Ledger(store, SetClock(at_ms), Owner(worker, version, "1-1", 0), PrivateSegments())


def usage(store: MemoryStore, **filters: object) -> list[UsageRow]:
    with store.snapshot() as snapshot:
        return read_usage(snapshot, **filters)  # type: ignore[arg-type]


async def test_charges_add_up_over_flushes_and_outcomes() -> None:
    async with open_memory_store() as store:
        ledger = ledger_on(store, NOON + 5)
        ledger.charge("fetch", "Default.fetch", 100_600, 1.5, "ok", {"subrequests": 2})
        ledger.charge("fetch", "Default.fetch", 50_600, 2.25, "exception", {"kv_reads": 3})
        assert ledger.pending
        await ledger.flush()
        assert not ledger.pending
        ledger.charge("fetch", "Default.fetch", 900, 0.25, "ok", {"kv_reads": 1})
        await ledger.flush()
        assert usage(store) == [
            UsageRow(
                "shop",
                "v1",
                "worker",
                "fetch",
                "Default.fetch",
                NOON,
                3,
                152,
                4.0,
                {"subrequests": 2, "kv_reads": 4},
                {"exception": 1},
            ),
        ]


async def test_two_isolates_of_a_worker_share_its_rows() -> None:
    async with open_memory_store() as store:
        for _ in range(2):
            ledger = ledger_on(store)
            ledger.charge("fetch", "f", 10_000, 1, "ok")
            await ledger.flush()
        (row,) = usage(store)
        assert (row.events, row.cpu_us) == (2, 20)


async def test_usage_is_read_by_worker_and_time() -> None:
    async with open_memory_store() as store:
        for worker in ("a", "ab"):
            for hour in range(3):
                ledger = ledger_on(store, NOON + hour * HOUR_MS, worker)
                ledger.charge("fetch", "f", 1, 1, "ok")
                await ledger.flush()

        def hours(**filters: object) -> list[tuple[str, int]]:
            return [(row.worker, (row.hour_ms - NOON) // HOUR_MS) for row in usage(store, **filters)]

        assert hours() == [("a", 0), ("a", 1), ("a", 2), ("ab", 0), ("ab", 1), ("ab", 2)]
        assert hours(worker="a") == [("a", 0), ("a", 1), ("a", 2)]
        assert hours(worker="a", from_ms=NOON + 1) == [("a", 1), ("a", 2)]
        assert hours(from_ms=NOON + HOUR_MS, to_ms=NOON + 2 * HOUR_MS) == [("a", 1), ("ab", 1)]
        assert hours(worker="ab", to_ms=NOON + HOUR_MS) == [("ab", 0)]
        assert hours(worker="none") == []


async def test_sums_go_over_hours_and_versions() -> None:
    async with open_memory_store() as store:
        for hour, version in enumerate(("v1", "v2")):
            ledger = ledger_on(store, NOON + hour * HOUR_MS, "shop", version)
            ledger.charge("fetch", "f", 10_000, 1, "exceededCpu")
            ledger.charge("alarm", "Counter.alarm", 5_000, 2, "ok", {"rows_read": 1}, product="object")
            await ledger.flush()
        rows = usage(store)
        assert list(group_rows(rows, ("product", "handler")).values()) == [
            UsageRow("shop", "", "object", "alarm", "Counter.alarm", NOON, 2, 10, 4.0, {"rows_read": 2}, {}),
            UsageRow("shop", "", "worker", "fetch", "f", NOON, 2, 20, 2.0, {}, {"exceededCpu": 2}),
        ]
        assert list(group_rows(rows, ("worker",)).values()) == [
            UsageRow("shop", "", "", "", "", NOON, 4, 30, 6.0, {"rows_read": 2}, {"exceededCpu": 2})
        ]
        assert group_rows([], ("worker",)) == {}


async def test_a_refused_flush_keeps_its_charges() -> None:
    store = MemoryStore()
    ledger = ledger_on(FailingStore(store, 1))
    ledger.charge("fetch", "f", 10_000, 1, "ok")
    refused = ledger.flush()
    ledger.charge("fetch", "f", 5_000, 1, "ok")
    with pytest.raises(StoreFailed):
        await refused
    assert ledger.pending
    ledger._store = store
    await ledger.flush_all()
    (row,) = usage(store)
    assert (row.events, row.cpu_us) == (2, 15)


async def test_flush_of_nothing_resolves() -> None:
    async with open_memory_store() as store:
        await ledger_on(store).flush()
        assert usage(store) == []


async def test_any_name_can_be_charged() -> None:
    async with open_memory_store() as store:
        ledger = ledger_on(store)
        ledger.charge("step", "flow/\ud800\x00", 1, 1, "ok")
        await ledger.flush()
        assert [row.name for row in usage(store)] == ["flow/?\x00"]


async def test_everything_is_flushed_at_the_end_whatever_is_being_written() -> None:
    async with open_memory_store() as store:
        ledger = ledger_on(store)
        ledger.charge("fetch", "f", 1_000, 1, "ok")
        ledger.flush()
        ledger.charge_process(ProcessCpu(kernel_ns=7))
        await ledger.flush_all()
        assert not ledger.pending
        with store.snapshot() as snapshot:
            assert [row.cpu.kernel_ns for row in read_processes(snapshot)] == [7]
