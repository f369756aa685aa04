"""How a host delivers to an actor: order, gates, back pressure, and what a call finds."""

import pytest
import trio
from actor_fakes import Bodies, FakeBody, address, put, running_host
from trio.testing import wait_all_tasks_blocked

from edge_runtime.actors.api import ActorAddress, ActorKind
from edge_runtime.errors import ActorBroken, UsageError
from edge_runtime.store.api import Table
from edge_runtime.store.memory_store import MemoryStore


async def test_messages_begin_in_the_order_of_delivery(autojump_clock):
    bodies = Bodies()
    async with running_host(MemoryStore(), bodies) as host:
        replies = [host.deliver(address(), n) for n in range(50)]
        assert [await reply for reply in replies] == list(range(50))
    assert bodies.log == ["start", *range(50)]


async def test_a_message_begins_when_the_one_before_has_given_up_control(autojump_clock):
    log = []

    def slow(n):
        async def run(body):
            log.append(f"begin {n}")
            await trio.sleep(1)
            log.append(f"end {n}")

        return run

    async with running_host(MemoryStore(), Bodies()) as host:
        replies = [host.deliver(address(), slow(n)) for n in range(3)]
        for reply in replies:
            await reply
    assert log[:3] == ["begin 0", "begin 1", "begin 2"]


async def test_deliveries_during_start_wait_for_it_in_order(autojump_clock):
    log = []

    class SlowStart(FakeBody):
        async def start(self):
            await trio.sleep(5)
            self.log.append("start")

    async with running_host(MemoryStore(), lambda context: SlowStart(context, log)) as host:
        first = host.deliver(address(), 1)
        await trio.sleep(1)
        second = host.deliver(address(), 2)
        assert not first.settled
        await second
    assert log == ["start", 1, 2]


async def test_closed_input_gate_holds_messages_back_in_order(autojump_clock):
    bodies = Bodies()
    async with running_host(MemoryStore(), bodies) as host:
        await host.deliver(address(), 0)
        bodies.made[0].gate = trio.Event()
        replies = [host.deliver(address(), n) for n in (1, 2, 3)]
        await wait_all_tasks_blocked()
        assert bodies.log == ["start", 0]
        bodies.made[0].gate.set()
        for reply in replies:
            await reply
    assert bodies.log == ["start", 0, 1, 2, 3]


async def test_output_gate_holds_reply_until_commit():
    store = MemoryStore(manual=True)

    async def write(body):
        await put(body, b"k")
        return "done"

    async with running_host(store, Bodies()) as host:
        reply = host.deliver(address(), write)
        await wait_all_tasks_blocked()
        assert not reply.settled
        store.commit_group()
        assert await reply == "done"
        assert store.get(Table.OBJECTS, b"k") == b"x"


async def test_output_gate_holds_errors_too():
    store = MemoryStore(manual=True)

    async def write(body):
        await put(body, b"k")
        raise ValueError("after the write")

    async with running_host(store, Bodies()) as host:
        reply = host.deliver(address(), write)
        await wait_all_tasks_blocked()
        assert not reply.settled
        store.commit_group()
        with pytest.raises(ValueError, match="after the write"):
            await reply


async def test_a_later_write_does_not_hold_an_earlier_reply():
    store = MemoryStore(manual=True)

    async def write(body):
        await put(body, b"k")
        return "done"

    async with running_host(store, Bodies()) as host:
        first = host.deliver(address(), write)
        await wait_all_tasks_blocked()
        second = host.deliver(address(), write)
        await wait_all_tasks_blocked()
        store.commit_group(1)
        assert first.settled
        assert not second.settled
        store.commit_group()
        await second


async def test_unregistered_namespace_is_refused():
    async with running_host(MemoryStore(), Bodies()) as host:
        with pytest.raises(UsageError, match="Nobody"):
            await host.deliver(ActorAddress("shop", ActorKind.OBJECT, "Nobody", "a"), 1)


async def test_the_name_is_stored_with_the_first_write_and_known_to_later_activations(autojump_clock):
    store = MemoryStore()
    names = []

    async def note(body):
        names.append(body.context.name)
        await put(body, b"k")

    async with running_host(store, Bodies(), idle_ms=1000) as host:
        await host.deliver(address(), 1, name="ann")
        await host.deliver(address(), note, name="ann")
        await trio.sleep(5)
        await host.deliver(address(), note)
    assert names == ["ann", "ann"]


async def test_an_actor_that_does_not_keep_up_refuses_further_calls_and_lives_on(autojump_clock, monkeypatch):
    monkeypatch.setattr("edge_runtime.actors.host.ACTOR_QUEUE_MAX", 3)

    async def slow(body):
        await trio.sleep(1)

    async with running_host(MemoryStore(), Bodies()) as host:
        calls = [host.deliver(address(), slow) for _ in range(3)]
        with pytest.raises(ActorBroken, match="Too many requests queued") as refusal:
            await host.deliver(address(), slow)
        assert refusal.value.overloaded
        assert not refusal.value.durableObjectReset
        for call in calls:
            await call
        assert await host.deliver(address(), 1) == 1


async def test_a_call_that_ends_at_once_is_over_when_it_is_awaited_and_others_have_their_turn_all_the_same():
    class Quick(FakeBody):
        async def input_open(self):
            return

    async def nothing(body):
        return None

    async with (
        running_host(MemoryStore(), lambda context: Quick(context, [])) as host,
        trio.open_nursery() as nursery,
    ):
        await host.deliver(address(), nothing)
        passes = 0

        async def count():
            nonlocal passes
            while True:
                await trio.lowlevel.checkpoint()
                passes += 1

        nursery.start_soon(count)
        await trio.lowlevel.checkpoint()
        before = passes
        for _ in range(10):
            await host.deliver(address(), nothing)
        assert passes - before <= 1
        for _ in range(1000):
            await host.deliver(address(), nothing)
        assert passes - before > 10
        nursery.cancel_scope.cancel()


async def test_a_message_that_suspends_in_a_scope_of_its_own_goes_on_in_it(autojump_clock):
    async def waits(body):
        with trio.move_on_after(5) as limit:
            await trio.sleep_forever()
        return limit.cancelled_caught

    async with running_host(MemoryStore(), Bodies()) as host:
        await host.deliver(address(), waits)  # the carriers are there
        started = trio.current_time()
        assert [await reply for reply in [host.deliver(address(str(n)), waits) for n in range(5)]] == [True] * 5
        assert trio.current_time() - started < 6
