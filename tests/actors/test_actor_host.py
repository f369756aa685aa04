import pytest
import trio
from actor_fakes import FakeBody, address, put, running_host
from trio.testing import wait_all_tasks_blocked

from edge_runtime.actors.activation import CODE_UPDATED, STORAGE_TIMED_OUT
from edge_runtime.actors.api import ActorAddress, ActorKind
from edge_runtime.errors import ActorBroken, StoreFailed, UsageError
from edge_runtime.promise import Promise
from edge_runtime.store.api import Batch, Table
from edge_runtime.store.memory_store import MemoryStore


class Bodies:
    """Makes bodies that share a log, and keeps them."""

    def __init__(self) -> None:
        self.log: list[object] = []
        self.made: list[FakeBody] = []

    def __call__(self, context) -> FakeBody:
        self.made.append(FakeBody(context, self.log))
        return self.made[-1]


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


async def test_calls_that_have_not_begun_fail_when_the_host_is_cancelled():
    bodies = Bodies()
    async with running_host(MemoryStore(), bodies) as host:
        replies = [host.deliver(address(str(number)), number) for number in range(100)]
    assert all(isinstance(reply.error, ActorBroken) for reply in replies)


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
