"""The model's own abilities: groups on demand, crashes at any commit, failures from the N-th on; and no real time."""

from __future__ import annotations

import pytest
import trio

from edge_runtime.errors import StoreFailed
from edge_runtime.promise import Promise
from edge_runtime.store.api import Batch, Table
from edge_runtime.store.memory_store import FailingStore, MemoryStore, open_memory_store

KV = Table.KV


def put(key: bytes) -> Batch:
    return Batch().put(KV, key, b"")


def stored(store: MemoryStore | FailingStore) -> list[bytes]:
    with store.snapshot() as snapshot:
        return list(snapshot.keys(KV))


def test_groups_are_committed_on_demand() -> None:
    store = MemoryStore(manual=True)
    promises = [store.commit(put(b"%d" % number)) for number in range(5)]
    assert (store.commit_group(2), [promise.settled for promise in promises]) == (2, [True, True, False, False, False])
    assert (stored(store), store.queued) == ([b"0", b"1"], 3)
    assert (store.commit_group(), store.commit_group(), store.groups) == (3, 0, 2)


@pytest.mark.parametrize("committed", range(6))
def test_a_crash_keeps_what_was_committed_and_nothing_else(committed: int) -> None:
    store = MemoryStore(manual=True)
    promises = [store.commit(put(b"%d" % number)) for number in range(5)]
    store.commit_group(committed)
    after = store.crash()
    assert stored(after) == [b"%d" % number for number in range(min(committed, 5))]
    assert [promise.settled for promise in promises] == [number < committed for number in range(5)]
    assert isinstance(store.commit(put(b"late")).error, StoreFailed)
    late = after.commit(put(b"next"))
    after.commit_group()
    assert late.settled
    assert b"next" not in stored(store)


async def test_commits_settle_without_the_clock_moving(autojump_clock: trio.testing.MockClock) -> None:
    async with open_memory_store() as store:
        before = trio.current_time()
        for number in range(10):
            await store.commit(put(b"%d" % number))
        assert trio.current_time() == before
        await trio.sleep(1000)
        await store.commit(put(b"after"))
    assert store.groups == 11


async def test_commits_of_one_turn_are_one_group() -> None:
    async with open_memory_store() as store:
        promises = [store.commit(put(b"%d" % number)) for number in range(50)]
        await promises[-1]
    assert store.groups == 1


async def test_commits_from_a_settled_commit_s_callback_are_committed() -> None:
    async with open_memory_store() as store:
        done: Promise[None] = Promise()
        store.commit(put(b"a")).add_done_callback(
            lambda _: store.commit(put(b"b")).add_done_callback(lambda _: done.resolve(None))
        )
        await done
        assert stored(store) == [b"a", b"b"]


async def test_failure_of_the_store_refuses_everything_after() -> None:
    async with open_memory_store() as store:
        await store.commit(put(b"a"))
        queued = store.commit(put(b"b"))
        store.fail()
        for promise in (queued, store.commit(put(b"c")), store.failed):
            with pytest.raises(StoreFailed):
                await promise
    assert stored(store) == [b"a"]


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("fail_at", range(1, 6))
async def test_the_nth_commit_and_all_later_ones_fail(fail_at: int, done: bool) -> None:
    async with open_memory_store() as inner:
        store = FailingStore(inner, fail_at, done=done)
        promises = [store.commit(put(b"%d" % number)) for number in range(1, 6)]
        outcomes = []
        for promise in promises:
            try:
                await promise
                outcomes.append(True)
            except StoreFailed:
                outcomes.append(False)
        assert outcomes == [number < fail_at for number in range(1, 6)]
        assert stored(store) == [b"%d" % number for number in range(1, fail_at + done)]
        with pytest.raises(StoreFailed):
            await store.failed
