"""How long actors stay in memory: eviction when idle, release with the host, the end of a host."""

import pytest
import trio
from actor_fakes import Bodies, FakeBody, address, put, running_host
from trio.testing import wait_all_tasks_blocked

from edge_runtime.actors.activation import CODE_UPDATED
from edge_runtime.errors import ActorBroken
from edge_runtime.promise import Promise
from edge_runtime.store.api import Batch, Table
from edge_runtime.store.memory_store import MemoryStore


async def test_idle_actors_are_evicted_and_activated_again(autojump_clock):
    bodies = Bodies()
    async with running_host(MemoryStore(), bodies, idle_ms=10_000) as host:
        await host.deliver(address(), 1)
        assert host.active == 0
        await trio.sleep(5)
        await host.deliver(address(), 2)
        await trio.sleep(8)
        assert len(bodies.made) == 1
        await trio.sleep(5)
        assert bodies.log == ["start", 1, 2, "stop"]
        await host.deliver(address(), 3)
    assert bodies.log[-2:] == ["start", 3]


async def test_busy_actors_are_not_evicted(autojump_clock):
    bodies = Bodies()

    async def slow(body):
        await trio.sleep(60)

    async with running_host(MemoryStore(), bodies) as host:
        reply = host.deliver(address(), slow)
        await trio.sleep(30)
        assert host.active == 1
        await reply
        bodies.made[0].busy = True
        await trio.sleep(30)
        assert bodies.log == ["start"]


async def test_a_call_during_eviction_is_processed_by_the_next_activation(autojump_clock):
    log = []

    class SlowStop(FakeBody):
        async def stop(self):
            self.log.append("stopping")
            await trio.sleep(5)
            self.log.append("stopped")

    async with running_host(MemoryStore(), lambda context: SlowStop(context, log), idle_ms=1000) as host:
        await host.deliver(address(), 1)
        await trio.sleep(3)
        assert log[-1] == "stopping"
        assert await host.deliver(address(), 2) == 2
    assert log == ["start", 1, "stopping", "stopped", "start", 2]


async def test_release_stops_bodies_flushes_and_refuses_everything_after(autojump_clock):
    store = MemoryStore()
    bodies = Bodies()
    late: list[Promise[None]] = []

    class Flushing(FakeBody):
        async def stop(self):
            await put(self, b"flushed")
            await trio.sleep(1)

    def make(context):
        bodies.made.append(Flushing(context, []))
        return bodies.made[-1]

    async def hang(body):
        try:
            await trio.sleep_forever()
        finally:
            late.append(body.context.commit(Batch().put(Table.OBJECTS, b"late", b"x")))

    async with running_host(store, make) as host:
        running = host.deliver(address(), hang)
        await trio.sleep(0.1)
        await host.release()
        assert store.get(Table.OBJECTS, b"flushed") == b"x"
        for promise in (running, host.deliver(address(), 1), host.deliver(address("b"), 1)):
            with pytest.raises(ActorBroken, match=CODE_UPDATED):
                await promise
        await trio.sleep(0.1)
        assert isinstance(late[0].error, ActorBroken)
        await store.commit(Batch())
    assert store.get(Table.OBJECTS, b"late") is None


async def test_release_lets_finished_replies_out_once_durable():
    store = MemoryStore(manual=True)

    async def write(body):
        await put(body, b"k")
        return "done"

    async with running_host(store, Bodies()) as host, trio.open_nursery() as nursery:
        reply = host.deliver(address(), write)
        await wait_all_tasks_blocked()
        nursery.start_soon(host.release)
        await wait_all_tasks_blocked()
        store.commit_group()
        assert await reply == "done"


async def test_release_while_an_actor_starts_fails_the_calls_that_wait_for_it(autojump_clock):
    class NeverStarts(FakeBody):
        async def start(self):
            await trio.sleep_forever()

    async with running_host(MemoryStore(), lambda context: NeverStarts(context, [])) as host:
        reply = host.deliver(address(), 1)
        await wait_all_tasks_blocked()
        await host.release()
        with pytest.raises(ActorBroken, match=CODE_UPDATED):
            await reply


async def test_calls_that_have_not_begun_fail_when_the_host_is_cancelled():
    bodies = Bodies()
    async with running_host(MemoryStore(), bodies) as host:
        replies = [host.deliver(address(str(number)), number) for number in range(100)]
    assert all(isinstance(reply.error, ActorBroken) for reply in replies)
