"""What only the store on disk does: files, maps that grow, snapshots across processes, crashes, refusals at opening."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import lmdb
import pytest
import trio
from lmdb.verify import verify as verify_file

from edge_runtime.errors import StoreCorrupt, StoreError, StoreFull
from edge_runtime.limits import STORE_CHUNK
from edge_runtime.store import chunks, keys, lmdb_environment, values
from edge_runtime.store.api import Batch, Table
from edge_runtime.store.lmdb_environment import FORMAT, FORMAT_KEY
from edge_runtime.store.lmdb_store import LmdbStore, open_store

KV = Table.KV
TINY_MAP = 256 * 1024


def meta_keys(store: LmdbStore) -> list[keys.Part]:
    with store.snapshot() as snapshot:
        return [keys.decode(key)[0] for key in snapshot.keys(Table.META)]


async def test_data_is_there_after_reopening(tmp_path: Path) -> None:
    path = tmp_path / "data" / "store"
    large = os.urandom(STORE_CHUNK * 2)
    async with open_store(path) as store:
        await store.commit(Batch().put(KV, b"a", b"1").put(KV, b"k" * 2000, b"long").put(KV, b"large", large))
    async with open_store(path) as store:
        assert (store.get(KV, b"a"), store.get(KV, b"k" * 2000), store.get(KV, b"large")) == (b"1", b"long", large)
    assert verify_file(str(path)) == []


async def test_nothing_is_left_of_deleted_long_keys_and_large_values(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        names = [b"k" * 3000 + b"%d" % number for number in range(50)]
        batch = Batch()
        for name in names:
            batch.put(KV, name, b"v" * (STORE_CHUNK + 1))
        await store.commit(batch)
        assert store.statistics().used_bytes > 50 * STORE_CHUNK
        for name in names[:25]:
            store.commit(Batch().delete(KV, name))
        await store.commit(Batch().delete_range(KV, b"", b"\xff"))
        environment = store._reader.environment
        assert environment is not None
        with environment.lmdb.begin() as txn:
            for database in (environment.nodes, environment.tables[KV], environment.tables[Table.CHUNKS]):
                assert txn.stat(database)["entries"] == 0


async def test_a_path_is_opened_once_per_process(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "store")
    async with open_store(tmp_path / "store"):
        for path in (tmp_path / "store", tmp_path / "link"):
            with pytest.raises(StoreError, match="open in this process already"):
                async with open_store(path):
                    pass
    async with open_store(tmp_path / "store"):
        pass


async def test_a_closed_store_says_so(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await store.commit(Batch().put(KV, b"a", b"1"))
        snapshot = store.snapshot()
    for use in (lambda: store.get(KV, b"a"), lambda: store.commit(Batch()), snapshot.__enter__, store.verify):
        with pytest.raises(StoreError, match="the store is closed"):
            use()


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (FORMAT + 1, f"newer version of edge: its format is {FORMAT + 1}, this version reads up to {FORMAT}"),
        (FORMAT - 1, f"before the first release: its format is {FORMAT - 1}, this version reads {FORMAT}"),
    ],
)
async def test_another_format_is_refused(tmp_path: Path, found: int, told: str) -> None:
    async with open_store(tmp_path) as store:
        record = values.encode({"version": found, "engine": "lmdb 0.9"})
        await store.commit(Batch().put(Table.META, FORMAT_KEY, record))
    for readonly in (False, True):
        with pytest.raises(StoreError, match=told):
            async with open_store(tmp_path, readonly=readonly):
                pass


async def test_another_engine_s_file_is_refused(tmp_path: Path) -> None:
    lmdb.open(str(tmp_path), lib_version=1).close()
    with pytest.raises(StoreError, match=r"something else than a file of the engine lmdb 0\.9"):
        async with open_store(tmp_path):
            pass


async def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(b"not a database" * 1000)
    with pytest.raises(StoreError, match="something else than a file"):
        async with open_store(tmp_path):
            pass
    with pytest.raises(StoreError, match="cannot open the store in"):
        async with open_store(tmp_path / "data.mdb"):
            pass


@pytest.mark.parametrize("record", [b"junk", values.encode("text"), values.encode({})])
async def test_a_damaged_format_record_is_corruption(tmp_path: Path, record: bytes) -> None:
    async with open_store(tmp_path) as store:
        await store.commit(Batch().put(Table.META, FORMAT_KEY, record))
    with pytest.raises(StoreCorrupt):
        async with open_store(tmp_path):
            pass


async def test_a_full_map_grows_under_load(tmp_path: Path) -> None:
    async with open_store(tmp_path, map_size=TINY_MAP) as store:

        async def write(task: int) -> None:
            for number in range(20):
                key = b"%d-%d" % (task, number)
                await store.commit(Batch().put(KV, key, key * 200))
                assert store.get(KV, key) == key * 200

        async with trio.open_nursery() as nursery:
            for task in range(16):
                nursery.start_soon(write, task)
        assert store.statistics().map_bytes > TINY_MAP
        with store.snapshot() as snapshot:
            assert len(list(snapshot.keys(KV))) == 320
    assert verify_file(str(tmp_path)) == []


async def test_growth_waits_for_open_snapshots(tmp_path: Path) -> None:
    async with open_store(tmp_path, map_size=TINY_MAP) as store:
        await store.commit(Batch().put(KV, b"a", b"1"))
        with store.snapshot() as snapshot:
            scan = snapshot.scan(KV)
            promise = store.commit(Batch().put(KV, b"b", b"x" * 2 * TINY_MAP))
            with trio.move_on_after(0.05):
                await promise
            assert not promise.settled
            assert list(scan) == [(b"a", b"1")]
        await promise
        assert store.get(KV, b"b") == b"x" * 2 * TINY_MAP


async def test_a_forgotten_snapshot_does_not_hold_up_the_end(tmp_path: Path) -> None:
    async with open_store(tmp_path, map_size=TINY_MAP) as store:
        await store.commit(Batch().put(KV, b"a", b"1"))
        snapshot = store.snapshot()
        view = snapshot.__enter__()
        scan = view.scan(KV)
        assert next(scan) == (b"a", b"1")
        promise = store.commit(Batch().put(KV, b"b", b"x" * 2 * TINY_MAP))
    assert promise.result() is None
    for use in (lambda: view.get(KV, b"a"), lambda: list(scan)):
        with pytest.raises(StoreError):
            use()
    snapshot.__exit__(None, None, None)
    assert verify_file(str(tmp_path)) == []


async def test_a_full_disk_refuses_batches_until_there_is_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_store(tmp_path) as store:
        await store.commit(Batch().put(KV, b"a", b"1"))
        with monkeypatch.context() as patched:
            full = SimpleNamespace(f_bavail=10, f_frsize=4096)
            patched.setattr(lmdb_environment.os, "statvfs", lambda path: full)
            with pytest.raises(StoreFull, match="40960 bytes left"):
                await store.commit(Batch().put(KV, b"a", b"2"))
            assert store.get(KV, b"a") == b"1"
        await store.commit(Batch().put(KV, b"a", b"3"))
        assert not store.failed.settled
        assert store.get(KV, b"a") == b"3"


async def test_many_tasks_share_few_commits(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:

        async def write(task: int) -> None:
            for number in range(10):
                await store.commit(Batch().put(KV, b"%d-%d" % (task, number), b""))

        before = store.statistics().groups
        async with trio.open_nursery() as nursery:
            for task in range(64):
                nursery.start_soon(write, task)
        assert store.statistics().groups - before <= 640 / 8


async def test_a_snapshot_held_back_is_visible_in_the_statistics(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        with store.snapshot():
            for number in range(3):
                await store.commit(Batch().put(KV, b"a", b"%d" % number))
            assert store.statistics().oldest_reader_lag == 3
        assert store.statistics().oldest_reader_lag == 0


async def test_reading_only_begins_empty_and_never_creates(tmp_path: Path) -> None:
    path = tmp_path / "store"
    async with open_store(path, readonly=True) as store:
        assert store.get(KV, b"a") is None
        assert store.statistics().used_bytes == 0
        assert store.verify() == 0
        with store.snapshot() as snapshot:
            assert snapshot.get(KV, b"a") is None
            assert list(snapshot.scan(KV)) == list(snapshot.keys(KV, reverse=True)) == []
        with pytest.raises(StoreError, match="read only"):
            store.commit(Batch().put(KV, b"a", b"1"))
    assert not path.exists()


async def test_reading_a_store_that_is_being_created_begins_empty(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").touch()
    async with open_store(tmp_path, readonly=True) as store:
        assert store.get(KV, b"a") is None
        lmdb.open(str(tmp_path), max_dbs=1, lib_version=0).close()
        assert store.get(KV, b"a") is None


async def test_a_child_of_a_fork_cannot_use_the_store(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await store.commit(Batch().put(KV, b"a", b"1"))
        pid = os.fork()
        if pid == 0:
            refused = 0
            for use in (lambda: store.get(KV, b"a"), store.snapshot().__enter__, lambda: store.commit(Batch())):
                try:
                    use()
                except StoreError as error:
                    refused += "before a fork" in str(error)
            os._exit(refused)
        _, status = await trio.to_thread.run_sync(os.waitpid, pid, 0)
        assert os.waitstatus_to_exitcode(status) == 3
        await store.commit(Batch().put(KV, b"a", b"2"))
        assert store.get(KV, b"a") == b"2"
    assert verify_file(str(tmp_path)) == []


async def test_a_process_that_closes_in_order_leaves_no_mark(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        assert meta_keys(store) == ["format"]
        await store.commit(Batch().put(KV, b"a", b"1"))
        assert meta_keys(store) == ["format", "open"]
    async with open_store(tmp_path, readonly=True) as store:
        assert meta_keys(store) == ["format"]


@pytest.mark.parametrize("boot", ["this", "another"])
async def test_marks_of_dead_processes_are_removed_after_a_verification(tmp_path: Path, boot: str) -> None:
    boot_id = await trio.Path("/proc/sys/kernel/random/boot_id").read_text() if boot == "this" else "another"
    async with open_store(tmp_path) as store:
        mark = keys.encode("open", boot_id.strip(), os.getpid(), 1)
        await store.commit(Batch().put(Table.META, mark, values.encode(None)).put(KV, b"k" * 1000, b"v" * 100_000))
    async with open_store(tmp_path) as store:
        assert meta_keys(store) == ["format", "next id"]


async def make_damage(path: Path, *, entry: bytes) -> None:
    """Store an entry as only a damaged file would have it, among healthy ones, and say that a commit failed."""
    async with open_store(path) as store:
        batch = Batch()
        for number in range(9):
            batch.put(KV, b"%d" % number, b"healthy")
        await store.commit(batch)
        environment = store._reader.environment
        assert environment is not None
        with environment.lmdb.begin(write=True) as txn:
            txn.put(b"5", entry, db=environment.tables[KV])
    (path / "failed").touch()


@pytest.mark.parametrize(
    "entry", [b"", b"\x07abc", b"\x01short", b"\x01" + bytes(7) + b"\x09" + bytes(6) + b"\x10\x00"]
)
async def test_verification_names_the_damaged_entry(tmp_path: Path, entry: bytes) -> None:
    await make_damage(tmp_path, entry=entry)
    for _ in range(2):
        with pytest.raises(StoreCorrupt, match=r"table kv, at key b'5'"):
            async with open_store(tmp_path):
                pass


@pytest.mark.parametrize("entry", [b"", b"\x07abc"])
async def test_reading_a_damaged_entry_is_corruption(tmp_path: Path, entry: bytes) -> None:
    await make_damage(tmp_path, entry=entry)
    async with open_store(tmp_path, readonly=True) as store:
        with pytest.raises(StoreCorrupt):
            store.get(KV, b"5")
        with store.snapshot() as snapshot, pytest.raises(StoreCorrupt):
            list(snapshot.scan(KV))
        with pytest.raises(StoreCorrupt):
            store.verify()
        assert store.get(KV, b"4") == b"healthy"


async def test_verification_counts_what_it_saw(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await store.commit(Batch().put(KV, b"a", b"1").put(Table.JOURNAL, b"k" * 4000, b"x" * 200_000))
        assert store.verify() == 2 + len(meta_keys(store))
    (tmp_path / "failed").touch()
    async with open_store(tmp_path) as store:
        assert store.get(KV, b"a") == b"1"
    assert not (tmp_path / "failed").exists()


def test_entries_of_unknown_form_are_not_guessed_at() -> None:
    with pytest.raises(StoreCorrupt, match="unknown form 02"):
        chunks.read(None, None, b"\x02value")
