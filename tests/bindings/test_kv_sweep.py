from __future__ import annotations

from types import SimpleNamespace

import pytest
import trio
from kv_fakes import FixedRandomness
from trio.testing import wait_all_tasks_blocked

from bindings.kv import KIND, entries
from bindings.kv import sweep as sweep_module
from bindings.kv.namespace import KvNamespace
from bindings.kv.sweep import removal, sweep_forever, sweep_once
from edge_runtime.errors import Conflict, StoreFailed
from edge_runtime.store.api import Table
from edge_runtime.store.memory_store import FailingStore, open_memory_store


def stored(store) -> int:
    with store.snapshot() as snapshot:
        return len(list(snapshot.keys(Table.KV)))


async def test_sweep_frees_what_has_expired_and_nothing_else(store, clock):
    kv = KvNamespace("ns", store, clock)
    await kv.put("small", "v", expirationTtl=60, metadata={"m": 1})
    await kv.put("large", "v" * 10_000, expirationTtl=60)
    await kv.put("later", "v", expirationTtl=61)
    await kv.put("never", "v")
    clock.advance(60_000)
    while await sweep_once(store, clock.now_ms()):
        pass
    assert stored(store) == 3  # "later" with its index entry, "never"
    assert [row.name for row in (await kv.list())["keys"]] == ["later", "never"]


async def test_sweep_looks_at_no_more_than_there_is_to_delete(store, clock, monkeypatch):
    monkeypatch.setattr(sweep_module, "KV_SWEEP_BATCH", 10)
    kv = KvNamespace("ns", store, clock)
    for i in range(30):
        kv.put(f"live{i}", "v", expirationTtl=10_000)
    for i in range(25):
        kv.put(f"dead{i}", "v", expirationTtl=60)
    await kv.put("last", "v")
    clock.advance(60_000)
    assert [await sweep_once(store, clock.now_ms()) for _ in range(4)] == [10, 10, 5, 0]
    assert len((await kv.list())["keys"]) == 31


async def test_key_written_again_after_the_sweep_looked_is_kept(store, clock):
    kv = KvNamespace("ns", store, clock)
    await kv.put("k", "old", expirationTtl=60)
    clock.advance(60_000)
    with store.snapshot() as snapshot:
        (index_key,) = snapshot.keys(Table.KV, *entries.expired_range(clock.now_ms()))
        batch = removal(snapshot, index_key)
    written = kv.put("k", "new", expirationTtl=60)
    with pytest.raises(Conflict):
        await store.commit(batch)
    await written
    assert await kv.get("k") == "new"
    await sweep_once(store, clock.now_ms())
    assert await kv.get("k") == "new"
    clock.advance(60_000)
    await sweep_once(store, clock.now_ms())
    assert stored(store) == 0


async def test_two_sweepers_at_once_do_no_harm(store, clock):
    kv = KvNamespace("ns", store, clock)
    for i in range(50):
        kv.put(f"k{i}", "v", expirationTtl=60)
    await kv.put("live", "v")
    clock.advance(60_000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sweep_once, store, clock.now_ms())
        nursery.start_soon(sweep_once, store, clock.now_ms())
    assert stored(store) == 1


async def test_sweeper_wakes_when_something_expires(clock):
    async with open_memory_store() as store, trio.open_nursery() as nursery:
        kv = KvNamespace("ns", store, clock)
        await kv.put("k", "v", expirationTtl=60)
        nursery.start_soon(sweep_forever, store, clock, FixedRandomness())
        await wait_all_tasks_blocked()
        assert clock.sleeping_until_ms == clock.now_ms() + 60_000
        clock.advance(60_000)
        await wait_all_tasks_blocked()
        assert stored(store) == 0
        nursery.cancel_scope.cancel()


async def test_sweeper_finds_what_expired_while_nothing_ran(clock):
    async with open_memory_store() as store, trio.open_nursery() as nursery:
        await KvNamespace("ns", store, clock).put("k", "v", expirationTtl=60)
        clock.advance(10**8)
        nursery.start_soon(sweep_forever, store, clock, FixedRandomness())
        await wait_all_tasks_blocked()
        assert stored(store) == 0
        nursery.cancel_scope.cancel()


async def test_sweeper_notices_entries_of_other_isolates_within_a_minute(clock):
    async with open_memory_store() as store, trio.open_nursery() as nursery:
        nursery.start_soon(sweep_forever, store, clock, FixedRandomness())
        await wait_all_tasks_blocked()
        await KvNamespace("of another isolate", store, clock).put("k", "v", expirationTtl=60)
        for _ in range(2):
            clock.advance(60_000)
            await wait_all_tasks_blocked()
        assert stored(store) == 0
        nursery.cancel_scope.cancel()


async def test_sweep_gives_up_when_the_store_has_failed(clock):
    async with open_memory_store() as inner:
        await KvNamespace("ns", inner, clock).put("k", "v", expirationTtl=60)
        clock.advance(60_000)
        with pytest.raises(StoreFailed):
            await sweep_forever(FailingStore(inner, 1), clock, FixedRandomness())
        runtime = SimpleNamespace(store=FailingStore(inner, 1), clock=clock, random=FixedRandomness())
        await KIND.serve([], runtime)
