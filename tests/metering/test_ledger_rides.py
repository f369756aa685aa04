"""Usage is written with the commits of other things, at no fsync of its own."""

from pathlib import Path

import trio

from edge_runtime.metering.ledger import Ledger, read_usage
from edge_runtime.metering.tally import Owner, PrivateSegments
from edge_runtime.seams import SystemClock
from edge_runtime.store.api import Batch, Table
from edge_runtime.store.lmdb_store import open_store


async def test_what_was_charged_is_durable_with_the_next_group_commit(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        ledger = Ledger(store, SystemClock(), Owner("shop", "v1", "1-1", 0), PrivateSegments())

        def ride_along() -> None:
            if ledger.pending:
                ledger.flush()

        store.before_group(ride_along)
        await store.commit(Batch().put(Table.KV, b"first", b""))
        groups = store.statistics().groups
        ledger.charge("fetch", "Default.fetch", 5_000_000, 1.0, "ok")
        with trio.fail_after(60):
            await store.commit(Batch().put(Table.KV, b"second", b""))
        assert store.statistics().groups == groups + 1
        assert not ledger.pending
        with store.snapshot() as snapshot:
            (row,) = read_usage(snapshot)
    assert (row.events, row.cpu_us) == (1, 5000)
