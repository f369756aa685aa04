"""Usage on a full disk: it waits, in memory and in the tally's file, and is in the ledger once there is room."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from edge_runtime.config.load import load_config
from edge_runtime.errors import StoreFull
from edge_runtime.isolate.events import accounting
from edge_runtime.isolate.events.accounting import Accounting
from edge_runtime.metering.ledger import read_usage
from edge_runtime.promise import Promise
from edge_runtime.seams import SystemClock
from edge_runtime.store.api import Batch
from edge_runtime.store.lmdb_store import LmdbStore, open_store

CONFIG = '{"name": "shop", "main": "entry.py", "compatibility_date": "2026-05-01"}'


class NoEvents:
    def charge_late(self) -> None:
        pass


class Disk:
    """Whether there is room for what the store is given."""

    full = True
    refused = 0

    def __init__(self, store: LmdbStore) -> None:
        self._commit = store.commit

    def commit(self, batch: Batch) -> Promise[None]:
        if self.full:
            self.refused += 1
            return Promise.rejected(StoreFull("the disk is full"))
        return self._commit(batch)


def events_of(store: LmdbStore) -> int:
    with store.snapshot() as snapshot:
        return sum(row.events for row in read_usage(snapshot))


def accounting_on(store: LmdbStore, folder: Path) -> Accounting:
    (folder / "entry.py").touch()
    (folder / "wrangler.jsonc").write_text(CONFIG)
    return Accounting(store, SystemClock(), load_config(folder, ()), "v1", folder)


async def test_usage_waits_for_room_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounting, "LEDGER_FLUSH_S", 0.01)
    async with open_store(tmp_path / "store") as store, trio.open_nursery() as nursery:
        usage = accounting_on(store, tmp_path)
        disk = Disk(store)
        monkeypatch.setattr(store, "commit", disk.commit)
        nursery.start_soon(usage.run, NoEvents())
        usage.ledger.charge("fetch", "Default.fetch", 1, 1.0, "ok")
        with trio.fail_after(60):
            while disk.refused < 2:
                await trio.sleep(0.01)
            disk.full = False
            while usage.ledger.pending:
                await trio.sleep(0.01)
        assert events_of(store) == 1
        nursery.cancel_scope.cancel()


async def test_usage_that_has_no_room_at_the_end_is_collected_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_store(tmp_path / "store") as store:
        first = accounting_on(store, tmp_path)
        disk = Disk(store)
        monkeypatch.setattr(store, "commit", disk.commit)
        first.ledger.charge("fetch", "Default.fetch", 1, 1.0, "ok")
        await first.finish(NoEvents())
        disk.full = False
        monkeypatch.setattr("os.getpid", lambda: 1)
        second = accounting_on(store, tmp_path)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(second.run, NoEvents())
            with trio.fail_after(60):
                while events_of(store) == 0:
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        assert events_of(store) == 1
