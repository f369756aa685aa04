"""When what an actor stores becomes durable, and which replies wait for that."""

from contextlib import asynccontextmanager

import pytest
from actor_fakes import FakeBody, address, running_host
from storage_without_host import run_now
from trio.testing import wait_all_tasks_blocked

from edge_runtime.actors.storage import ActorStorage
from edge_runtime.actors.timers import ActorRecord, read_record
from edge_runtime.errors import ActorBroken
from edge_runtime.store.api import Table
from edge_runtime.store.memory_store import MemoryStore


@asynccontextmanager
async def stored_actor(store):
    """`call(fn)` runs fn(storage) in an activated actor."""

    class Body(FakeBody):
        async def receive(self, message):
            if not hasattr(self, "storage"):
                self.storage = ActorStorage(self.context, run_now)
            return await message(self.storage)

    async with running_host(store, lambda context: Body(context, [])) as host:
        yield lambda fn: host.deliver(address(), fn, name="ann")


async def test_writes_of_one_turn_commit_together_and_in_order():
    store = MemoryStore(manual=True)

    async def write(storage):
        storage.put("a", 1)
        storage.put("b", 2)
        storage.delete("a")
        await wait_all_tasks_blocked()
        storage.put("c", 3)

    async with stored_actor(store) as call:
        reply = call(write)
        await wait_all_tasks_blocked()
        await wait_all_tasks_blocked()
        assert store.queued == 2
        store.commit_group(1)
        assert [key[-2:-1] for key in store._image[Table.OBJECTS].order] == [b"b"]
        store.commit_group()
        await reply


async def test_unconfirmed_writes_do_not_hold_the_reply():
    store = MemoryStore(manual=True)

    async def unconfirmed(storage):
        storage.put("a", 1, allowUnconfirmed=True)
        storage.put({"b": 1}, {"allowUnconfirmed": True})
        return "at once"

    async def mixed(storage):
        storage.put("a", 1, {"allowUnconfirmed": True})
        storage.put("b", 1)
        return "later"

    async with stored_actor(store) as call:
        assert await call(unconfirmed) == "at once"
        reply = call(mixed)
        await wait_all_tasks_blocked()
        assert not reply.settled
        store.commit_group()
        assert await reply == "later"


async def test_sync_waits_for_everything_written_before_it():
    store, reached = MemoryStore(manual=True), []

    async def write(storage):
        await storage.sync()
        reached.append("nothing to wait for")
        storage.put("a", 1, allowUnconfirmed=True)
        await storage.sync()
        reached.append("durable")

    async with stored_actor(store) as call:
        reply = call(write)
        await wait_all_tasks_blocked()
        assert reached == ["nothing to wait for"]
        store.commit_group()
        await reply
        assert reached[-1] == "durable"


async def test_a_failed_write_fails_sync_and_the_reply():
    store = MemoryStore(manual=True)

    async def write(storage):
        storage.put("a", 1)
        return "never"

    async with stored_actor(store) as call:
        reply = call(write)
        await wait_all_tasks_blocked()
        store.fail()
        with pytest.raises(ActorBroken):
            await reply


async def test_delete_all_leaves_nothing_behind_and_later_writes_bring_the_name_back():
    store = MemoryStore()

    async def fill(storage):
        await storage.put("a", 1)
        await storage.setAlarm(10**15)

    async def clear(storage):
        await storage.deleteAll()

    async def clear_and_write(storage):
        await storage.deleteAll()
        await storage.put("b", 1)

    def record():
        with store.snapshot() as snapshot:
            return read_record(snapshot, address())

    async with stored_actor(store) as call:
        await call(fill)
        assert record() == ActorRecord(10**15, 0, "ann")
        await call(clear)
        for name in (Table.OBJECTS, Table.ACTORS, Table.TIMERS):
            assert not store._image[name].order
        await call(clear_and_write)
        await call(fill)
        assert record().name == "ann"
