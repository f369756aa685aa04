"""What every implementation of the store seam does. Each test runs on all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.errors import Conflict, LimitExceeded, StoreCorrupt, StoreError, StoreFailed
from edge_runtime.limits import MIB, STORE_CHUNK, STORE_KEY_MAX
from edge_runtime.store import values
from edge_runtime.store.api import Batch, Store, Table
from edge_runtime.store.lmdb_store import open_store
from edge_runtime.store.memory_store import open_memory_store

KV = Table.KV


def open_kind(kind: str, path: Path) -> AbstractAsyncContextManager[Store]:
    return open_memory_store() if kind == "memory" else open_store(path)


@pytest.fixture(params=["lmdb", "memory"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    async with open_kind(request.param, tmp_path / "store") as opened:
        yield opened


def read_all(store: Store, table: Table = KV, **bounds: Any) -> list[tuple[bytes, bytes]]:
    with store.snapshot() as snapshot:
        return list(snapshot.scan(table, **bounds))


async def test_a_committed_value_is_read_back(store: Store) -> None:
    await store.commit(Batch().put(KV, b"a", b"1").put(KV, b"b", b""))
    assert (store.get(KV, b"a"), store.get(KV, b"b"), store.get(KV, b"c")) == (b"1", b"", None)
    with store.snapshot() as snapshot:
        assert (snapshot.get(KV, b"a"), snapshot.get(KV, b"b"), snapshot.get(KV, b"c")) == (b"1", b"", None)


async def test_tables_are_apart(store: Store) -> None:
    await store.commit(Batch().put(Table.KV, b"a", b"kv").put(Table.JOURNAL, b"a", b"journal"))
    assert (store.get(Table.KV, b"a"), store.get(Table.JOURNAL, b"a")) == (b"kv", b"journal")
    assert store.get(Table.TIMERS, b"a") is None


async def test_a_batch_is_invisible_until_it_is_committed(store: Store) -> None:
    promise = store.commit(Batch().put(KV, b"a", b"1"))
    assert not promise.settled
    await promise
    assert store.get(KV, b"a") == b"1"


async def test_operations_apply_in_order(store: Store) -> None:
    await store.commit(Batch().put(KV, b"a", b"1").delete(KV, b"a").put(KV, b"a", b"2").put(KV, b"b", b"1"))
    await store.commit(Batch().put(KV, b"c", b"1").delete_range(KV, b"b", b"d").put(KV, b"d", b"1").delete(KV, b"x"))
    assert read_all(store) == [(b"a", b"2"), (b"d", b"1")]


async def test_batches_apply_in_the_order_of_their_commits(store: Store) -> None:
    promises = [store.commit(Batch().put(KV, b"a", b"%d" % number)) for number in range(100)]
    for promise in promises:
        await promise
    assert store.get(KV, b"a") == b"99"


async def test_a_batch_may_be_reused_after_its_commit(store: Store) -> None:
    batch = Batch().put(KV, b"a", b"1")
    first = store.commit(batch)
    batch.put(KV, b"b", b"2")
    await first
    assert store.get(KV, b"b") is None


async def test_an_empty_batch_resolves_after_all_earlier_ones(store: Store) -> None:
    settled: list[int] = []
    promises = [store.commit(Batch().put(KV, b"%d" % number, b"")) for number in range(5)]
    promises.append(store.commit(Batch()))
    for number, promise in enumerate(promises):
        promise.add_done_callback(lambda _, number=number: settled.append(number))
    await promises[-1]
    assert settled == [0, 1, 2, 3, 4, 5]


async def test_a_snapshot_does_not_change(store: Store) -> None:
    await store.commit(Batch().put(KV, b"a", b"1").put(KV, b"b", b"1"))
    with store.snapshot() as snapshot:
        scan = snapshot.scan(KV)
        assert next(scan) == (b"a", b"1")
        await store.commit(Batch().put(KV, b"a", b"2").delete(KV, b"b").put(KV, b"c", b"2"))
        assert snapshot.get(KV, b"a") == b"1"
        assert list(scan) == [(b"b", b"1")]
        assert store.get(KV, b"a") == b"2"
    assert read_all(store) == [(b"a", b"2"), (b"c", b"2")]


async def test_a_snapshot_is_refused_after_its_end(store: Store) -> None:
    await store.commit(Batch().put(KV, b"a", b"1").put(KV, b"b", b"1"))
    with store.snapshot() as snapshot:
        scan = snapshot.scan(KV)
        next(scan)
    with pytest.raises(StoreError):
        snapshot.get(KV, b"a")
    with pytest.raises(StoreError):
        list(scan)
    with pytest.raises(StoreError):
        list(snapshot.keys(KV))


async def test_scans_are_ordered_and_bounded(store: Store) -> None:
    names = [b"a", b"a\x00", b"ab", b"b", b"\xff", b"\xff\xff"]
    batch = Batch()
    for name in reversed(names):
        batch.put(KV, name, name)
    await store.commit(batch)
    with store.snapshot() as snapshot:
        assert list(snapshot.keys(KV)) == names
        assert list(snapshot.keys(KV, reverse=True)) == names[::-1]
        assert list(snapshot.keys(KV, b"a\x00", b"b")) == [b"a\x00", b"ab"]
        assert list(snapshot.keys(KV, b"a\x00", b"b", reverse=True)) == [b"ab", b"a\x00"]
        assert list(snapshot.keys(KV, b"aa", b"aa")) == []
        assert list(snapshot.keys(KV, b"b", b"a")) == []
        assert list(snapshot.keys(KV, b"b", b"a", reverse=True)) == []
        assert list(snapshot.keys(KV, b"c")) == [b"\xff", b"\xff\xff"]
        assert list(snapshot.keys(KV, b"", b"a")) == []
        assert list(snapshot.scan(KV, b"\xff")) == [(b"\xff", b"\xff"), (b"\xff\xff", b"\xff\xff")]
        assert list(snapshot.keys(Table.INBOX, reverse=True)) == []


async def test_expectations_guard_their_whole_batch(store: Store) -> None:
    await store.commit(Batch().put(KV, b"a", b"1"))
    good = store.commit(Batch().expect(KV, b"a", b"1").expect(KV, b"b", None).put(KV, b"b", b"1"))
    bad = store.commit(Batch().put(KV, b"c", b"1").expect(KV, b"b", None))
    after = store.commit(Batch().put(KV, b"d", b"1"))
    await good
    with pytest.raises(Conflict, match="b'b'"):
        await bad
    await after
    assert read_all(store) == [(b"a", b"1"), (b"b", b"1"), (b"d", b"1")]
    assert not store.failed.settled


async def test_expectations_see_their_batch_s_own_operations(store: Store) -> None:
    await store.commit(Batch().put(KV, b"a", b"1").put(KV, b"b", b"1"))
    batch = Batch().put(KV, b"a", b"2").expect(KV, b"a", b"2").delete_range(KV, b"b", b"c").expect(KV, b"b", None)
    await store.commit(batch.add_counters(KV, b"n", {"x": 1}).expect(KV, b"n", values.encode({"x": 1})))
    with pytest.raises(Conflict):
        await store.commit(Batch().put(KV, b"a", b"3").expect(KV, b"a", b"2"))
    assert store.get(KV, b"a") == b"2"


async def test_conflicts_in_a_group_leave_the_others_alone(store: Store) -> None:
    promises = []
    for number in range(40):
        batch = Batch().put(KV, b"%02d" % number, b"")
        promises.append(store.commit(batch.expect(KV, b"none", b"") if number % 3 == 1 else batch))
    refused = 0
    for promise in promises:
        try:
            await promise
        except Conflict:
            refused += 1
    assert refused == 13
    assert [int(key) for key, _ in read_all(store)] == [number for number in range(40) if number % 3 != 1]


async def test_counters_add_up(store: Store) -> None:
    await store.commit(Batch().add_counters(KV, b"n", {"events": 1, "cpu": 10}))
    store.commit(Batch().add_counters(KV, b"n", {"events": 2, "errors": -1}).add_counters(KV, b"n", {"cpu": 2**70}))
    await store.commit(Batch())
    stored = store.get(KV, b"n")
    assert stored is not None
    assert values.decode(stored) == {"events": 3, "cpu": 10 + 2**70, "errors": -1}


async def test_counters_on_another_value_are_corruption_of_that_batch_alone(store: Store) -> None:
    await store.commit(Batch().put(KV, b"n", b"text").put(KV, b"m", values.encode({"x": "y"})))
    for key in (b"n", b"m"):
        refused = store.commit(Batch().put(KV, b"a", b"").add_counters(KV, key, {"x": 1}))
        accepted = store.commit(Batch().put(KV, b"b", b""))
        with pytest.raises(StoreCorrupt):
            await refused
        await accepted
    assert store.get(KV, b"a") is None


@pytest.mark.parametrize("length", [STORE_CHUNK - 1, STORE_CHUNK, STORE_CHUNK + 1, 3 * STORE_CHUNK, 2 * MIB + 5])
async def test_large_values_are_whole(store: Store, length: int) -> None:
    value = bytes(range(256)) * (length // 256 + 1)
    await store.commit(Batch().put(KV, b"a", value[:length]).put(KV, b"b", b"small"))
    assert store.get(KV, b"a") == value[:length]
    assert read_all(store) == [(b"a", value[:length]), (b"b", b"small")]
    await store.commit(Batch().expect(KV, b"a", value[:length]).put(KV, b"a", b"now small"))
    assert store.get(KV, b"a") == b"now small"
    await store.commit(Batch().put(KV, b"a", value[:length]))
    await store.commit(Batch().delete_range(KV, b"", b"b"))
    assert read_all(store) == [(b"b", b"small")]
    assert read_all(store, Table.CHUNKS) == []


async def test_a_prefix_is_copied_as_it_is_at_that_place_of_the_batch(store: Store) -> None:
    large = b"large" * STORE_CHUNK
    batch = Batch().put(KV, b"b/old", b"").put(KV, b"a", b"not of the prefix").put(KV, b"a/\xff\xff", large)
    for number in range(2500):
        batch.put(KV, b"a/%04d" % number, b"%d" % number)
    await store.commit(batch)
    copying = Batch().put(KV, b"a/0000", b"changed").delete(KV, b"a/0001").delete_range(KV, b"b/", b"b0")
    await store.commit(copying.copy_prefix(KV, b"a/", b"b/").put(KV, b"a/0002", b"too late"))
    found = dict(read_all(store, start=b"b/", end=b"b0"))
    assert len(found) == 2500
    assert (found[b"b/0000"], found[b"b/0002"], found[b"b/2499"]) == (b"changed", b"2", b"2499")
    assert found[b"b/\xff\xff"] == large
    assert b"b/0001" not in found
    await store.commit(Batch().delete_range(KV, b"a/", b"a0"))
    assert store.get(KV, b"b/\xff\xff") == large


@pytest.mark.parametrize(("prefix", "to"), [(b"a", b"ab"), (b"ab", b"a"), (b"a", b"a"), (b"", b"a")])
async def test_a_prefix_is_not_copied_into_itself(store: Store, prefix: bytes, to: bytes) -> None:
    with pytest.raises(StoreError, match="one begins with the other"):
        await store.commit(Batch().put(KV, b"x", b"").copy_prefix(KV, prefix, to))
    assert read_all(store) == []


@pytest.mark.parametrize("key", [b"", b"k" * (STORE_KEY_MAX + 1)])
async def test_keys_out_of_bounds_refuse_their_batch_alone(store: Store, key: bytes) -> None:
    refusals = [
        store.commit(Batch().put(KV, b"a", b"").put(KV, key, b"")),
        store.commit(Batch().put(KV, b"a", b"").delete(KV, key)),
        store.commit(Batch().expect(KV, key, None)),
        store.commit(Batch().add_counters(KV, key, {})),
    ]
    await store.commit(Batch().put(KV, b"b", b""))
    for promise in refusals:
        with pytest.raises(LimitExceeded, match="store key"):
            await promise
    with pytest.raises(LimitExceeded):
        store.get(KV, key)
    with store.snapshot() as snapshot, pytest.raises(LimitExceeded):
        snapshot.get(KV, key)
    assert read_all(store) == [(b"b", b"")]


async def test_what_was_queued_is_committed_at_the_end(tmp_path: Path) -> None:
    for opened in (open_memory_store(), open_store(tmp_path / "store")):
        store: Store
        async with opened as store:
            promises = [store.commit(Batch().put(KV, b"%d" % number, b"")) for number in range(50)]
        assert all(promise.settled and promise.error is None for promise in promises)


async def test_a_memory_store_refuses_commits_after_its_end() -> None:
    async with open_memory_store() as store:
        pass
    with pytest.raises(StoreFailed):
        await store.commit(Batch().put(KV, b"a", b""))


class Model:
    """A dict that does what batches say."""

    def __init__(self) -> None:
        self.entries: dict[bytes, bytes] = {}

    def apply(self, operations: list[tuple[str, bytes, Any]]) -> Batch:
        batch = Batch()
        for name, key, other in operations:
            if name == "put":
                batch.put(KV, key, other)
                self.entries[key] = other
            elif name == "delete":
                batch.delete(KV, key)
                self.entries.pop(key, None)
            elif name == "copy_prefix":
                batch.copy_prefix(KV, key, other)
                for copied, value in self.between(key, None):
                    if copied.startswith(key):
                        self.entries[other + copied[len(key) :]] = value
            else:
                batch.delete_range(KV, key, other)
                for gone, _ in self.between(key, other):
                    del self.entries[gone]
        return batch

    def between(self, start: bytes, end: bytes | None) -> list[tuple[bytes, bytes]]:
        return sorted(item for item in self.entries.items() if start <= item[0] and (end is None or item[0] < end))


LONG = st.builds(
    lambda head, repeats, tail: (head * repeats)[:STORE_KEY_MAX] + tail,
    st.sampled_from([b"k", b"\x00", b"\xff", b"ab"]),
    st.sampled_from([500, 501, 502, 503, 504, 511, 512, 1004, 1005, 2000, 4000]),
    st.sampled_from([b"", b"\x00", b"a", b"b", b"\xff", b"\xff\xff"]),
)
KEYS = st.one_of(LONG, st.sampled_from([b"a", b"b", b"k", b"k" * 502, b"k" * 501, b"\x00", b"\xff", b"\xff" * 600]))
KEYS = KEYS.filter(lambda key: 0 < len(key) <= STORE_KEY_MAX)
OPERATIONS = st.one_of(
    st.tuples(st.just("put"), KEYS, st.binary(max_size=3)),
    st.tuples(st.just("delete"), KEYS, st.none()),
    st.tuples(st.just("delete_range"), KEYS, KEYS),
    st.sampled_from([("copy_prefix", b"k", b"ab"), ("copy_prefix", b"\xff", b"k"), ("copy_prefix", b"a", b"\x00")]),
)


@pytest.mark.parametrize("kind", ["lmdb", "memory"])
@settings(max_examples=60, deadline=None)
@given(
    batches=st.lists(st.lists(OPERATIONS, max_size=8), max_size=5), bounds=st.lists(st.tuples(KEYS, KEYS), max_size=6)
)
async def test_keys_of_any_length_behave_as_in_a_dict(
    kind: str, batches: list[list[tuple[str, bytes, Any]]], bounds: list[tuple[bytes, bytes]]
) -> None:
    with TemporaryDirectory() as directory:
        async with open_kind(kind, Path(directory)) as store:
            model = Model()
            for operations in batches:
                await store.commit(model.apply(operations))
            with store.snapshot() as snapshot:
                for start, end in [(b"", None), *bounds, *((start, None) for start, _ in bounds)]:
                    expected = model.between(start, end)
                    assert list(snapshot.scan(KV, start, end)) == expected
                    assert list(snapshot.scan(KV, start, end, reverse=True)) == expected[::-1]
                    assert list(snapshot.keys(KV, start, end)) == [key for key, _ in expected]
                    assert list(snapshot.keys(KV, start, end, reverse=True)) == [key for key, _ in expected][::-1]
                for key in (key for pair in bounds for key in pair):
                    assert snapshot.get(KV, key) == store.get(KV, key) == model.entries.get(key)


async def test_commits_settle_under_concurrency(store: Store) -> None:
    async def write(task: int) -> None:
        for number in range(20):
            await store.commit(Batch().put(KV, b"%d-%d" % (task, number), b""))

    async with trio.open_nursery() as nursery:
        for task in range(32):
            nursery.start_soon(write, task)
    assert len(read_all(store)) == 640
