"""What breaks an actor, and what that does not touch: its next activation and other actors."""

import pytest
import trio
from actor_fakes import Bodies, FakeBody, address, put, running_host
from trio.testing import wait_all_tasks_blocked

from edge_runtime.actors.activation import STORAGE_TIMED_OUT
from edge_runtime.errors import ActorBroken, StoreFailed
from edge_runtime.store.api import Batch, Table
from edge_runtime.store.memory_store import MemoryStore


async def test_a_failed_start_fails_every_waiting_call_and_the_next_call_starts_anew(autojump_clock):
    attempts = []

    class Failing(FakeBody):
        async def start(self):
            attempts.append(1)
            await trio.sleep(1)
            if len(attempts) == 1:
                raise ValueError("no")

    async with running_host(MemoryStore(), lambda context: Failing(context, [])) as host:
        replies = [host.deliver(address(), n) for n in range(2)]
        for reply in replies:
            with pytest.raises(ValueError, match="no"):
                await reply
        assert await host.deliver(address(), 3) == 3
    assert len(attempts) == 2


async def test_a_failed_commit_breaks_the_actor_and_no_reply_leaves():
    store = MemoryStore(manual=True)

    async def write(body):
        await put(body, b"k")
        return "done"

    async with running_host(store, Bodies()) as host:
        reply = host.deliver(address(), write)
        await wait_all_tasks_blocked()
        store.fail()
        with pytest.raises(ActorBroken) as broken:
            await reply
        assert isinstance(broken.value.__cause__, StoreFailed)


async def test_a_refused_batch_breaks_the_actor_and_the_next_call_reads_what_is_durable(autojump_clock):
    bodies = Bodies()

    async def conflicting(body):
        body.context.commit(Batch().expect(Table.OBJECTS, b"k", b"other").put(Table.OBJECTS, b"k", b"y"))
        await trio.sleep_forever()

    async with running_host(MemoryStore(), bodies) as host:
        with pytest.raises(ActorBroken):
            await host.deliver(address(), conflicting)
        assert await host.deliver(address(), 1) == 1
    assert len(bodies.made) == 2


async def test_failures_are_isolated(autojump_clock):
    async def fail(body):
        raise SystemExit(3)

    async with running_host(MemoryStore(), Bodies()) as host:
        other = host.deliver(address("b"), 1)
        with pytest.raises(SystemExit):
            await host.deliver(address(), fail)
        assert await other == 1
        assert await host.deliver(address(), 2) == 2


async def test_abort_fails_running_and_queued_calls_cancels_tasks_and_refuses_commits(autojump_clock):
    bodies = Bodies()
    seen = []

    async def hang(body):
        try:
            await trio.sleep_forever()
        finally:
            seen.append(body.context.commit(Batch().put(Table.OBJECTS, b"late", b"x")).error)

    async def abort(body):
        body.gate = trio.Event()
        body.context.abort(ActorBroken("reset by test"))

    async with running_host(MemoryStore(), bodies) as host:
        calls = [host.deliver(address(), message) for message in (hang, abort, 3, 4)]
        for call in calls:
            with pytest.raises(ActorBroken, match="reset by test"):
                await call
        assert await host.deliver(address(), 5) == 5
        assert isinstance(seen[0], ActorBroken)
    assert len(bodies.made) == 2


async def test_a_new_activation_waits_for_what_the_broken_one_had_queued():
    store = MemoryStore(manual=True)
    read = []

    class Reading(FakeBody):
        async def start(self):
            read.append(self.context.store.get(Table.OBJECTS, b"k"))

    async def write_and_abort(body):
        await put(body, b"k")
        body.context.abort(ActorBroken("reset"))

    async with running_host(store, lambda context: Reading(context, [])) as host:
        first = host.deliver(address(), write_and_abort)
        await wait_all_tasks_blocked()
        with pytest.raises(ActorBroken):
            await first
        second = host.deliver(address(), 2)
        await wait_all_tasks_blocked()
        assert read == [None]
        store.commit_group()
        await wait_all_tasks_blocked()
        assert await second == 2
    assert read == [None, b"x"]


async def test_a_write_that_takes_too_long_resets_the_actor(autojump_clock):
    store = MemoryStore(manual=True)

    async def write(body):
        await put(body, b"k")

    async with running_host(store, Bodies()) as host:
        reply = host.deliver(address(), write)
        await trio.sleep(40)
        with pytest.raises(ActorBroken, match=STORAGE_TIMED_OUT):
            await reply
        store.commit_group()
