"""The storage API against a dict, and its rules one by one."""

from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from actor_fakes import FakeBody, address, running_host
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from trio.testing import wait_all_tasks_blocked

from edge_runtime.actors.overlay import Overlay
from edge_runtime.actors.storage import ActorStorage
from edge_runtime.actors.timers import ActorRecord, next_due_ms, read_record, write_record
from edge_runtime.actors.turns import Turn
from edge_runtime.errors import ActorBroken
from edge_runtime.promise import Promise
from edge_runtime.store.api import Table
from edge_runtime.store.memory_store import MemoryStore
from edge_runtime.workers.js_object import JsException


class PlainContext:
    """An actor without a host: turns end when `flush` is called."""

    def __init__(self, store):
        self.address = address()
        self.store = store
        self.record = None
        self.open_turn = None
        self.refusal = None
        self.clock = self

    def now_ms(self):
        return 1000

    due_ms = scheduled_ms = property(lambda self: None if self.record is None else self.record.due_ms)

    def set_timer(self, batch, due_ms, *, retries=0):
        new = None if due_ms is None else ActorRecord(due_ms, retries, None, due_ms)
        write_record(batch, self.address, self.record, new)
        self.record = new

    def forget(self, batch):
        self.set_timer(batch, None)

    def turn(self):
        if self.open_turn is None:
            self.open_turn = Turn()
        return self.open_turn

    def flush(self):
        turn, self.open_turn = self.open_turn, None
        if turn is not None:
            self.store.commit(turn.batch).add_done_callback(turn.settled)


def run_now(callback):
    """A critical section with nobody to keep out, for callbacks that do not wait."""
    try:
        callback().send(None)
    except StopIteration as done:
        return Promise.resolved(done.value)
    raise AssertionError("the callback waited")


def make_storage(store=None, **options):
    context = PlainContext(store or MemoryStore(manual=True))
    return ActorStorage(context, run_now, **options), context


NAMES = st.sampled_from(["", "a", "aa", "ab", "b", "b\0", "b\0c", "é", "\uffff", "\U0001f600", "z"])
VALUES = st.none() | st.integers() | st.text(max_size=5) | st.lists(st.booleans(), max_size=3)
BOUNDS = st.none() | NAMES


class StorageModel(RuleBasedStateMachine):
    """Whatever is written, flushed, committed or lost in a crash: reads see every write, and after a crash exactly
    the turns that were committed."""

    def __init__(self):
        super().__init__()
        self.store = MemoryStore(manual=True)
        self.start()
        self.model, self.layers = {}, []
        self.committed, self.queued, self.alarm = [({}, None)], [], None

    def start(self):
        self.storage, self.context = make_storage(self.store)

    def top(self):
        return self.layers[-1] if self.layers else self.model

    @rule(name=NAMES, value=VALUES)
    def put(self, name, value):
        assert self.storage.put(name, value).result() is None
        self.top()[name] = value

    @rule(entries=st.dictionaries(NAMES, VALUES, max_size=4))
    def put_many(self, entries):
        self.storage.put(entries).result()
        self.top().update(entries)

    @rule(name=NAMES)
    def delete(self, name):
        assert self.storage.delete(name).result() is (name in self.top())
        self.top().pop(name, None)

    @rule(names=st.lists(NAMES, max_size=4, unique=True))
    def delete_many(self, names):
        assert self.storage.delete(names).result() == sum(name in self.top() for name in names)
        for name in names:
            self.top().pop(name, None)

    @precondition(lambda self: not self.layers)
    @rule()
    def delete_all(self):
        self.storage.deleteAll().result()
        self.model.clear()
        self.alarm = None

    @precondition(lambda self: not self.layers)
    @rule(due_ms=st.integers(1001, 2000))
    def set_alarm(self, due_ms):
        self.storage.setAlarm(due_ms).result()
        self.alarm = due_ms

    @precondition(lambda self: not self.layers)
    @rule()
    def delete_alarm(self):
        self.storage.deleteAlarm().result()
        self.alarm = None

    @precondition(lambda self: len(self.layers) < 3)
    @rule()
    def begin(self):
        self.layers.append(dict(self.top()))
        self.open_layers = [*getattr(self, "open_layers", []), self.storage._overlay.begin()]

    @precondition(lambda self: self.layers)
    @rule(commit=st.booleans())
    def end(self, commit):
        self.storage._overlay.end(self.open_layers.pop(), commit=commit)
        layer = self.layers.pop()
        if commit:
            self.top().clear()
            self.top().update(layer)

    @rule()
    def end_turn(self):
        if self.context.open_turn is not None:
            self.context.flush()
            self.queued.append((dict(self.model), self.alarm))

    @rule(count=st.integers(1, 3))
    def commit(self, count):
        for _ in range(self.store.commit_group(count)):
            self.committed.append(self.queued.pop(0))

    @rule()
    def crash(self):
        self.store = self.store.crash()
        self.start()
        model, self.alarm = self.committed[-1]
        self.model, self.layers, self.queued, self.open_layers = dict(model), [], [], []
        with self.store.snapshot() as snapshot:
            assert next_due_ms(snapshot, self.context.address.worker) == self.alarm
            self.context.record = read_record(snapshot, self.context.address)

    @rule(
        start=BOUNDS, end=BOUNDS, prefix=st.sampled_from([None, "", "a", "b", "b\0", "é"]),
        reverse=st.booleans(), limit=st.none() | st.integers(1, 4), exclusive=st.booleans(),
    )  # fmt: skip
    def list_range(self, start, end, prefix, reverse, limit, exclusive):
        options = {"startAfter" if exclusive else "start": start, "end": end, "prefix": prefix, "reverse": reverse}
        found = self.storage.list(options, limit=limit).result()
        names = sorted(
            name
            for name in self.top()
            if (start is None or (name > start if exclusive else name >= start))
            and (end is None or name < end)
            and name.startswith(prefix or "")
        )
        expected = (names[::-1] if reverse else names)[:limit]
        assert list(found.items()) == [(name, self.top()[name]) for name in expected]

    @invariant()
    def reads_see_every_write(self):
        assert dict(self.storage.list().result()) == self.top()
        for name in ("a", "b\0"):
            assert self.storage.get(name).result() == self.top().get(name)
        assert self.storage.kv.get("aa") == self.top().get("aa")
        assert self.storage.getAlarm().result() == self.alarm


TestStorageModel = StorageModel.TestCase
TestStorageModel.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@given(st.dictionaries(st.text(max_size=4), st.integers(), max_size=8))
@settings(max_examples=50)
def test_lists_are_in_the_order_of_utf8_bytes(entries):
    storage, context = make_storage()
    storage.put(dict(list(entries.items())[::2])).result()
    context.flush()
    context.store.commit_group()
    storage.put(dict(list(entries.items())[1::2])).result()
    assert list(storage.list().result()) == sorted(entries, key=lambda name: name.encode())


def test_stored_values_are_copies():
    storage, _ = make_storage()
    mine = {"list": [1]}
    storage.put("k", mine)
    mine["list"].append(2)
    first = storage.get("k").result()
    first["list"].append(3)
    assert storage.get("k").result() == {"list": [1]}
    assert first.list == [1, 3]


def test_values_come_back_as_cloudflare_gives_them():
    storage, _ = make_storage()
    moment = datetime(2026, 5, 1, 12, tzinfo=UTC)
    storage.put({"bytes": b"ab", "set": {1, 2}, "when": moment, "none": None, "whole": 2.0})
    found = storage.list().result()
    assert isinstance(found["bytes"], memoryview)
    assert bytes(found.bytes) == b"ab"
    assert found.set == {1, 2}
    assert found.when == moment.astimezone().replace(tzinfo=None)
    assert found.none is None
    assert type(found.whole) is int


def test_get_of_many_gives_only_those_found():
    storage, _ = make_storage()
    storage.put({"b": 2, "a": None})
    assert list(storage.get(["b", "x", "a"]).result().items()) == [("a", None), ("b", 2)]
    assert storage.get("x").result() is None


def test_promises_are_settled_when_the_call_returns():
    storage, _ = make_storage()
    for promise in (storage.put("a", 1), storage.get("a"), storage.delete("a"), storage.list(), storage.getAlarm()):
        assert promise.settled


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda s: s.put("a"), TypeError, r"put\(\) called with undefined value\."),
        (lambda s: s.put({"a": 1}, 5), TypeError, r"put\(\) may only be called with a single key-value pair"),
        (lambda s: s.put(5, 5), TypeError, r"put\(\) may only be called with"),
        (lambda s: s.put("a", (1, 2)), TypeError, "tuple"),
        (lambda s: s.put({"ok": 1, "a": object()}), Exception, "does not support serialization"),
        (lambda s: s.get(5), TypeError, "a key or a list of keys"),
        (lambda s: s.get(["a", 5]), TypeError, "a storage key is a string"),
        (lambda s: s.delete(None), TypeError, "a key or a list of keys"),
        (lambda s: s.list(limit=0), TypeError, r"List limit must be positive\."),
        (lambda s: s.list({"limit": "3"}), TypeError, r"List limit must be positive\."),
        (lambda s: s.list(start="a", startAfter="b"), TypeError, "both start and startAfter values"),
        (lambda s: s.list(prefix=3), TypeError, "are strings, not int"),
        (lambda s: s.setAlarm(-5), TypeError, "alarm time <= 0"),
        (lambda s: s.setAlarm(float("nan")), TypeError, "milliseconds since the epoch"),
        (lambda s: s.put("k" * 2049, 1), ValueError, r"Keys cannot be larger than 2048 bytes\. A key of size 2049"),
        (lambda s: s.put("é" * 1025, 1), ValueError, "A key of size 2050 was provided"),
        (lambda s: s.put("a", "v" * 2_000_001), ValueError, "Values cannot be larger than 2000000 bytes"),
    ],
)
def test_a_wrong_argument_rejects_and_writes_nothing(call, error, text):
    storage, context = make_storage()
    with pytest.raises(error, match=text):
        call(storage).result()
    assert context.open_turn is None
    assert dict(storage.list().result()) == {}


def test_limits_of_classes_without_sqlite():
    storage, _ = make_storage(sqlite=False)
    storage.put("k" * 2048, "v" * 131_072).result()
    with pytest.raises(ValueError, match=r"Values cannot be larger than 131072 bytes\. A value of size"):
        storage.put("a", "v" * 131_110).result()
    many = {str(n): n for n in range(129)}
    for promise in (storage.put(many), storage.get(list(many)), storage.delete(list(many))):
        with pytest.raises(ValueError, match=r"Maximum number of key value pairs is 128\. 129 pairs were provided\."):
            promise.result()
    for member in ("kv", "sql"):
        with pytest.raises(JsException, match="SQL is not enabled"):
            getattr(storage, member)
    with pytest.raises(JsException, match=r"storage\.sql is not available"):
        _ = make_storage()[0].sql
    with pytest.raises(JsException, match="SQL is not enabled"):
        storage.transactionSync(lambda: None)


def test_transaction_sync_rolls_back_and_nests():
    storage, _ = make_storage()
    storage.put("a", 1)

    def outer():
        storage.kv.put("a", 2)
        with pytest.raises(KeyError):
            storage.transactionSync(inner)
        return storage.kv.get("a"), storage.kv.get("b")

    def inner():
        storage.kv.put("b", 1)
        storage.setAlarm(5000)
        assert storage.getAlarm().result() == 5000
        raise KeyError

    assert storage.transactionSync(outer) == (2, None)
    assert storage.getAlarm().result() is None
    assert dict(storage.list().result()) == {"a": 2}

    async def not_sync():
        pass

    with pytest.raises(TypeError, match="not async"):
        storage.transactionSync(not_sync)


def test_transaction_rules():
    storage, _ = make_storage()
    kept = []

    async def commit(txn):
        await txn.put("a", 1)
        await txn.setAlarm(5000)
        with pytest.raises(JsException, match=r"Cannot call deleteAll\(\) within a transaction"):
            await txn.deleteAll()
        with pytest.raises(JsException, match=r"Cannot call deleteAll\(\) within a transaction"):
            await storage.deleteAll()
        kept.append(txn)
        return await storage.get("a")

    assert storage.transaction(commit).result() == 1
    assert storage.getAlarm().result() == 5000
    with pytest.raises(JsException, match="on transaction that has already committed: did you move `txn` outside"):
        kept[0].get("a").result()

    async def roll_back(txn):
        await txn.put("a", 2)
        await txn.deleteAlarm()
        txn.rollback()
        txn.rollback()
        with pytest.raises(JsException, match=r"Cannot get\(\) on rolled back transaction"):
            await txn.get("a")
        return await storage.get("a")

    assert storage.transaction(roll_back).result() == 1
    assert storage.getAlarm().result() == 5000
    assert storage.transaction(lambda txn: "sync").result() == "sync"

    async def fail(txn):
        await storage.put("a", 3)
        raise LookupError("no")

    with pytest.raises(LookupError, match="no"):
        storage.transaction(fail).result()
    assert storage.get("a").result() == 1


def test_delete_all_keeps_the_alarm_where_the_flag_says_so():
    storage, _ = make_storage(delete_all_deletes_alarm=False)
    storage.setAlarm(5000)
    storage.put("a", 1)
    storage.deleteAll()
    assert storage.getAlarm().result() == 5000
    assert dict(storage.list().result()) == {}


def test_delete_all_hides_what_became_durable_after_it():
    storage, context = make_storage()
    storage.put("a", 1)
    context.flush()
    storage.deleteAll()
    storage.put("b", 2)
    context.flush()
    for _ in range(2):
        context.store.commit_group(1)
        assert storage.get("a").result() is None
        assert dict(storage.list().result()) == {"b": 2}


def test_kv_list_shows_what_was_there_when_it_was_called():
    storage, _ = make_storage()
    storage.kv.put("a", 1)
    storage.kv.put("b", 2)
    pairs = storage.kv.list(prefix="")
    assert storage.kv.delete("b") is True
    assert storage.kv.delete("b") is False
    assert list(pairs) == [["a", 1], ["b", 2]]


def test_objects_do_not_see_each_other():
    store = MemoryStore(manual=True)
    one, context = make_storage(store)
    other, other_context = make_storage(store)
    other_context.address = address("b")
    other._overlay = Overlay(other_context)
    one.put("k", 1)
    other.put("k", 2)
    for each in (context, other_context):
        each.flush()
    store.commit_group()
    assert (one.get("k").result(), other.get("k").result()) == (1, 2)
    other.deleteAll()
    other_context.flush()
    store.commit_group()
    assert (one.get("k").result(), other.get("k").result()) == (1, None)


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
