"""The rules of the storage API, one by one."""

from datetime import UTC, datetime

import pytest
from actor_fakes import address
from hypothesis import given, settings
from hypothesis import strategies as st
from storage_without_host import make_storage

from edge_runtime.actors.overlay import Overlay
from edge_runtime.store.memory_store import MemoryStore
from edge_runtime.workers.js_object import JsException


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
