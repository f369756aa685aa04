import pytest
import trio
from actor_fakes import WORKER, FakeBody, address, running_host
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from edge_runtime.actors.api import ActorAddress, ActorKind
from edge_runtime.actors.timers import (
    addresses,
    due,
    forget,
    next_due_ms,
    read_record,
    schedule,
    scheduled_namespaces,
    wake,
)
from edge_runtime.errors import Conflict
from edge_runtime.limits import ALARMS_AT_ONCE_MAX
from edge_runtime.store.api import Batch, Table
from edge_runtime.store.memory_store import MemoryStore
from edge_runtime.testing.surroundings import EPOCH_MS, JumpingClock


def commit(store, batch):
    promise = store.commit(batch)
    store.commit_group()
    promise.result()


def set_timer(store, who, due_ms, **options):
    batch = Batch()
    with store.snapshot() as snapshot:
        schedule(batch, snapshot, who, due_ms, **options)
    commit(store, batch)


def table(store, name):
    return store._image[name].order


def test_the_earliest_timer_of_a_worker_is_found():
    store = MemoryStore(manual=True)
    other = ActorAddress("another", ActorKind.OBJECT, "Fake", "a")
    for who, due_ms in ((address("a"), 500), (address("b"), 300), (other, 100)):
        set_timer(store, who, due_ms)
    with store.snapshot() as snapshot:
        assert next_due_ms(snapshot, WORKER) == 300
        assert next_due_ms(snapshot, "another") == 100
        assert next_due_ms(snapshot, "nobody") is None
        assert [timer.address.id for timer in due(snapshot, WORKER, 500, 10)] == ["b", "a"]
        assert [timer.address.id for timer in due(snapshot, WORKER, 499, 10)] == ["b"]
        assert [timer.address.id for timer in due(snapshot, WORKER, 500, 1)] == ["b"]
        assert due(snapshot, WORKER, 299, 10) == []


@given(st.lists(st.tuples(st.sampled_from("abc"), st.none() | st.integers(0, 50), st.booleans()), max_size=30))
def test_table_and_records_agree_after_any_changes(changes):
    store, model = MemoryStore(manual=True), {}
    for id, due_ms, named in changes:
        set_timer(store, address(id), due_ms, name="name" if named else None)
        model[id] = due_ms
    with store.snapshot() as snapshot:
        found = {timer.address.id: timer.due_ms for timer in due(snapshot, WORKER, 100, 100)}
        assert found == {id: due_ms for id, due_ms in model.items() if due_ms is not None}
        for id in found:
            assert read_record(snapshot, address(id)).due_ms == found[id]
        batch = Batch()
        for id in model:
            forget(batch, snapshot, address(id))
    commit(store, batch)
    assert not table(store, Table.TIMERS)
    assert not table(store, Table.ACTORS)


def test_scheduling_from_a_stale_view_is_refused():
    store, batches = MemoryStore(manual=True), []
    for due_ms in (5, 6):
        batch = Batch()
        with store.snapshot() as snapshot:
            schedule(batch, snapshot, address(), due_ms)
        batches.append(store.commit(batch))
    store.commit_group()
    batches[0].result()
    with pytest.raises(Conflict):
        batches[1].result()


def test_namespaces_and_actors_are_listed():
    store = MemoryStore(manual=True)
    for namespace in ("Zoo", "Ark"):
        for id in "cab":
            set_timer(store, ActorAddress(WORKER, ActorKind.WORKFLOW, namespace, id), 5)
    set_timer(store, address(namespace="Object"), 5)
    with store.snapshot() as snapshot:
        assert scheduled_namespaces(snapshot, WORKER, ActorKind.WORKFLOW) == ["Ark", "Zoo"]
        assert scheduled_namespaces(snapshot, WORKER, ActorKind.CRON) == []
        assert [who.id for who in addresses(snapshot, WORKER, ActorKind.WORKFLOW, "Zoo", 2)] == ["a", "b"]


def timer_calls(log):
    return [entry for entry in log if isinstance(entry, tuple)]


async def test_timers_fire_at_their_time_and_not_before(autojump_clock):
    store, log = MemoryStore(), []
    async with running_host(store, lambda context: FakeBody(context, log)) as host:
        batch = Batch()
        with store.snapshot() as snapshot:
            for n in (3, 1, 2):
                schedule(batch, snapshot, address(str(n)), EPOCH_MS + n * 1000)
        await store.commit(batch)
        host.timers_changed()
        assert host.next_due_ms == EPOCH_MS + 1000
        await trio.sleep(10)
        assert host.next_due_ms is None
    calls = timer_calls(log)
    assert [due_ms for _, _, due_ms in calls] == [EPOCH_MS + n * 1000 for n in (1, 2, 3)]
    assert all(at >= due_ms for _, at, due_ms in calls)


async def test_a_timer_that_passed_while_nothing_ran_fires_at_once(autojump_clock):
    store, log = MemoryStore(), []
    with store.snapshot() as snapshot:
        batch = Batch()
        schedule(batch, snapshot, address(), EPOCH_MS - 1_000_000)
    await store.commit(batch)
    async with running_host(store, lambda context: FakeBody(context, log)):
        await trio.sleep(0.01)
    assert len(timer_calls(log)) == 1


async def test_a_wall_clock_set_back_makes_no_timer_early(autojump_clock):
    store, log, clock = MemoryStore(), [], JumpingClock()
    async with running_host(store, lambda context: FakeBody(context, log), clock=clock) as host:
        batch = Batch()
        with store.snapshot() as snapshot:
            schedule(batch, snapshot, address(), EPOCH_MS + 10_000)
        await store.commit(batch)
        host.timers_changed()
        await trio.sleep(5)
        clock.shift_ms = -3000
        await trio.sleep(7)
        assert timer_calls(log) == []
        await trio.sleep(7)
    [(_, at, due_ms)] = timer_calls(log)
    assert at >= due_ms


async def test_a_timer_set_by_an_actor_wakes_the_host(autojump_clock):
    log = []

    async def set_two(body):
        batch = Batch()
        body.context.set_timer(batch, EPOCH_MS + 60_000)
        body.context.set_timer(batch, EPOCH_MS + 5_000)
        body.context.commit(batch)

    async with running_host(MemoryStore(), lambda context: FakeBody(context, log)) as host:
        await host.deliver(address(), set_two)
        await trio.sleep(100)
    assert [due_ms for _, _, due_ms in timer_calls(log)] == [EPOCH_MS + 5_000]


async def test_a_timer_moved_while_it_waits_its_turn_does_not_fire(autojump_clock):
    log = []

    async def set_due(body):
        batch = Batch()
        body.context.set_timer(batch, EPOCH_MS + 1000)
        body.context.commit(batch)
        body.gate = trio.Event()

    async def move(body):
        batch = Batch()
        body.context.set_timer(batch, EPOCH_MS + 90_000)
        body.context.commit(batch)

    bodies = []

    def make(context):
        bodies.append(FakeBody(context, log))
        return bodies[-1]

    async with running_host(MemoryStore(), make) as host:
        await host.deliver(address(), set_due)
        moved = host.deliver(address(), move)
        await trio.sleep(2)
        bodies[0].gate.set()
        await moved
        await trio.sleep(5)
        assert timer_calls(log) == []
        await trio.sleep(100)
        assert len(timer_calls(log)) == 1


async def test_thousands_of_timers_due_at_once_fire_once_each_a_bounded_number_at_a_time(autojump_clock):
    store, log, running, most = MemoryStore(), [], set(), [0]

    class Slow(FakeBody):
        async def timer(self):
            running.add(self)
            most[0] = max(most[0], len(running))
            await trio.sleep(0.1)
            running.discard(self)
            await super().timer()

    batch = Batch()
    with store.snapshot() as snapshot:
        for n in range(2000):
            schedule(batch, snapshot, address(str(n)), EPOCH_MS + n % 7)
    await store.commit(batch)
    async with running_host(store, lambda context: Slow(context, log)) as host:
        await trio.sleep(0.05)
        assert await host.deliver(address("other"), "request") == "request"
        await trio.sleep(20)
    assert len(timer_calls(log)) == 2000
    assert most[0] == ALARMS_AT_ONCE_MAX
    assert not table(store, Table.TIMERS)


async def test_a_timer_whose_call_raises_is_kept_and_tried_again_later_each_time(autojump_clock, caplog):
    store, log = MemoryStore(), []

    class Failing(FakeBody):
        async def timer(self):
            self.log.append(("timer", self.context.clock.now_ms(), self.context.due_ms))
            raise OSError("no")

    async with running_host(store, lambda context: Failing(context, log)) as host:
        batch = Batch()
        with store.snapshot() as snapshot:
            schedule(batch, snapshot, address(), EPOCH_MS + 1000)
        await store.commit(batch)
        host.timers_changed()
        await trio.sleep(20)
        assert 3 <= len(timer_calls(log)) <= 5
        assert table(store, Table.TIMERS)
        assert host.next_due_ms > EPOCH_MS + 1000


async def test_a_body_that_leaves_its_timer_due_is_not_called_in_a_loop(autojump_clock):
    store, log = MemoryStore(), []

    async def nothing(body):
        pass

    def make(context):
        body = FakeBody(context, log)
        body.on_timer = nothing
        return body

    async with running_host(store, make) as host:
        batch = Batch()
        with store.snapshot() as snapshot:
            schedule(batch, snapshot, address(), EPOCH_MS)
        await store.commit(batch)
        host.timers_changed()
        await trio.sleep(5)
    assert 1 <= len(timer_calls(log)) <= 3


async def test_timers_of_namespaces_that_nobody_registered_wait(autojump_clock, caplog):
    store = MemoryStore()
    async with running_host(store, lambda context: FakeBody(context, [])) as host:
        batch = Batch()
        with store.snapshot() as snapshot:
            schedule(batch, snapshot, address(namespace="Gone"), EPOCH_MS)
        await store.commit(batch)
        host.timers_changed()
        await trio.sleep(100)
        assert table(store, Table.TIMERS)
    assert "no object namespace 'Gone' is configured" in caplog.text


async def test_a_wake_up_calls_the_body_whatever_its_own_timer_says_and_is_then_gone(autojump_clock):
    store, log = MemoryStore(), []

    async def keep(body):
        pass

    def make(context):
        body = FakeBody(context, log)
        body.on_timer = keep
        return body

    async with running_host(store, make) as host:
        batch = Batch()
        with store.snapshot() as snapshot:
            schedule(batch, snapshot, address(), EPOCH_MS + 90_000)
        wake(batch, address(), EPOCH_MS, "token-1")
        wake(batch, address(), EPOCH_MS, "token-2")
        await store.commit(batch)
        host.timers_changed()
        await trio.sleep(5)
        # One call for those that were there together, another for one that comes later.
        assert [due_ms for _, _, due_ms in timer_calls(log)] == [EPOCH_MS + 90_000]
        assert len(table(store, Table.TIMERS)) == 1
        later = Batch()
        wake(later, address(), EPOCH_MS, "token-3")
        await store.commit(later)
        host.timers_changed()
        await trio.sleep(5)
        assert [due_ms for _, _, due_ms in timer_calls(log)] == [EPOCH_MS + 90_000] * 2
        assert len(table(store, Table.TIMERS)) == 1


async def test_an_entry_that_no_record_names_is_removed(autojump_clock):
    store, log = MemoryStore(), []
    await store.commit(Batch())
    batch = Batch()
    with store.snapshot() as snapshot:
        schedule(batch, snapshot, address(), EPOCH_MS)
    batch.operations = [op for op in batch.operations if getattr(op, "table", None) is Table.TIMERS]
    await store.commit(batch)
    async with running_host(store, lambda context: FakeBody(context, log)):
        await trio.sleep(1)
    assert timer_calls(log) == []
    assert not table(store, Table.TIMERS)


async def test_release_during_a_timer_keeps_it_for_the_next_host(autojump_clock):
    store, log = MemoryStore(), []

    async def hang(body):
        await trio.sleep_forever()

    def make(context):
        body = FakeBody(context, log)
        body.on_timer = hang
        return body

    batch = Batch()
    with store.snapshot() as snapshot:
        schedule(batch, snapshot, address(), EPOCH_MS)
    await store.commit(batch)
    async with running_host(store, make) as host:
        await wait_all_tasks_blocked()
        assert len(timer_calls(log)) == 1
        await host.release()
    async with running_host(store, lambda context: FakeBody(context, log)):
        await trio.sleep(1)
    assert len(timer_calls(log)) == 2
    assert not table(store, Table.TIMERS)
