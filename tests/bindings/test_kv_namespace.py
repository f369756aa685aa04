from __future__ import annotations

import json
from array import array

import pytest
import trio
from kv_fakes import running_event

from bindings.kv.namespace import KvNamespace
from bindings.kv.validation import KvError
from edge_runtime.errors import StoreFailed
from edge_runtime.limits import KV_VALUE_MAX
from edge_runtime.promise import Promise
from edge_runtime.store.memory_store import FailingStore, MemoryStore, open_memory_store
from edge_runtime.workers.buffers import Uint8Array
from edge_runtime.workers.streams import ReadableStream


@pytest.fixture
async def kv(store, clock):
    return KvNamespace("ns", store, clock)


async def test_put_then_get_gives_the_text(kv):
    await kv.put("key", "hello from KV")
    assert await kv.get("key") == "hello from KV"


async def test_missing_key_is_none_for_every_type(kv):
    for kind in ("text", "json", "arrayBuffer", "stream"):
        assert await kv.get("nothing", kind) is None
    found = await kv.getWithMetadata("nothing")
    assert found.value is None
    assert found.metadata is None
    assert found["cacheStatus"] is None


async def test_json_type_gives_dicts_with_attributes(kv):
    await kv.put("doc", json.dumps({"message": "hello", "inner": [{"n": 1}]}))
    for result in (
        await kv.get("doc", "json"),
        await kv.get("doc", type="json"),
        await kv.get("doc", {"type": "json"}),
    ):
        assert isinstance(result, dict)
        assert result == {"message": "hello", "inner": [{"n": 1}]}
        assert result.message == "hello"
        assert result.inner[0].n == 1


@pytest.mark.parametrize("text", ["{", "NaN", "[1,]", "", "[" * 100_000])
async def test_json_type_of_other_text_is_a_value_error_naming_the_key(kv, text):
    await kv.put("doc", text)
    with pytest.raises(ValueError, match="KV key 'doc' is not JSON"):
        await kv.get("doc", "json")


async def test_array_buffer_type_is_a_memoryview_of_the_bytes(kv):
    await kv.put("bin", bytes(range(256)))
    result = await kv.get("bin", "arrayBuffer")
    assert isinstance(result, memoryview)
    assert bytes(result) == bytes(range(256))


async def test_stream_type_gives_a_readable_stream(kv):
    await kv.put("s", "streamed")
    stream = await kv.get("s", "stream")
    assert isinstance(stream, ReadableStream)
    assert b"".join([piece async for piece in stream]) == b"streamed"


async def test_text_of_bytes_that_are_not_utf8_has_replacement_characters(kv):
    await kv.put("bin", b"a\xffb")
    assert await kv.get("bin") == "a\ufffdb"


@pytest.mark.parametrize(
    "value",
    ["", b"", bytearray(b"ab"), memoryview(array("H", [1, 2])), Uint8Array([1, 2, 255]), "x" * 5000, b"\0" * 200_000],
    ids=["empty", "empty bytes", "bytearray", "memoryview", "typed array", "apart", "large"],
)
async def test_every_kind_of_value_reads_back(kv, value):
    await kv.put("k", value)
    stored = bytes(await kv.get("k", "arrayBuffer"))
    assert stored == (value.encode() if isinstance(value, str) else bytes(value))


async def test_put_overwrites_whatever_was_there_before(kv):
    for value in ("small", "x" * 10_000, "y" * 10_001, "small again", ""):
        await kv.put("k", value)
        assert await kv.get("k") == value


async def test_large_value_is_not_visible_under_another_record(kv, store):
    await kv.put("k", "x" * 10_000)
    await kv.put("k", "small")
    await kv.delete("k")
    with store.snapshot() as snapshot:
        assert list(snapshot.keys("kv")) == []


async def test_delete_removes_and_tolerates_absence(kv):
    await kv.put("k", "v")
    assert await kv.delete("k") is None
    assert await kv.get("k") is None
    await kv.delete("k")


async def test_metadata_comes_back_with_value_and_in_list(kv):
    metadata = {"author": "a", "n": [1, 2.5, None, True], "ü": "é"}
    await kv.put("k", "v", metadata=metadata)
    found = await kv.get_with_metadata("k")
    assert (found.value, found.metadata) == ("v", metadata)
    assert found.metadata.author == "a"
    assert (await kv.list())["keys"][0]["metadata"] == metadata
    await kv.put("k", "v")
    assert (await kv.getWithMetadata("k")).metadata is None


async def test_options_come_as_dict_or_keywords_or_none(kv, clock):
    await kv.put("a", "v", {"expirationTtl": 60, "metadata": {"m": 1}})
    await kv.put("b", "v", expirationTtl=60, metadata={"m": 1})
    await kv.put("c", "v", None)
    await kv.put("d", "v", {"expirationTtl": None, "unknownToCloudflareToo": 1})
    rows = (await kv.list(None))["keys"]
    expires = clock.now_ms() // 1000 + 60
    assert rows == [
        {"name": "a", "expiration": expires, "metadata": {"m": 1}},
        {"name": "b", "expiration": expires, "metadata": {"m": 1}},
        {"name": "c"},
        {"name": "d"},
    ]
    assert await kv.get("a", None) == "v"


async def test_expiration_ttl_wins_over_expiration(kv, clock):
    now_s = clock.now_ms() // 1000
    await kv.put("k", "v", expiration=now_s + 1000, expirationTtl=100)
    assert (await kv.list())["keys"][0].expiration == now_s + 100


async def test_expired_key_is_invisible_at_once_everywhere(kv, clock):
    await kv.put("k", "v", expirationTtl=60, metadata={"m": 1})
    clock.advance(59_999)
    assert await kv.get("k") == "v"
    clock.advance(1)
    assert await kv.get("k") is None
    assert await kv.get("k", "json") is None
    assert (await kv.getWithMetadata("k")).metadata is None
    assert (await kv.get(["k"]))["k"] is None
    assert (await kv.list())["keys"] == []


async def test_rewriting_without_ttl_makes_a_key_permanent(kv, clock):
    await kv.put("k", "v", expirationTtl=60)
    await kv.put("k", "w")
    clock.advance(10**9)
    assert await kv.get("k") == "w"


async def test_bulk_get_answers_every_key_asked_for(kv):
    await kv.put("a", "1")
    await kv.put("b", "x" * 5000)
    found = await kv.get(["a", "b", "gone", "a"])
    assert found == {"a": "1", "b": "x" * 5000, "gone": None}
    assert found.a == "1"


async def test_bulk_get_with_metadata_and_json(kv):
    await kv.put("a", '{"n": 1}', metadata={"m": 1})
    found = await kv.getWithMetadata(["a", "gone"], "json")
    assert found["a"].value.n == 1
    assert found["a"].metadata.m == 1
    assert found["gone"].value is None
    assert found["gone"].metadata is None


async def test_namespaces_do_not_see_each_other(store, clock):
    first, second = KvNamespace("a", store, clock), KvNamespace("a\0", store, clock)
    await first.put("k", "1")
    await first.put("\0k", "3")
    assert await second.get("k") is None
    assert (await second.list())["keys"] == []
    await second.put("k", "2")
    assert await first.get("k") == "1"
    assert [row.name for row in (await first.list())["keys"]] == ["\0k", "k"]


async def test_one_id_is_one_namespace_whoever_opens_it(store, clock):
    await KvNamespace("shared", store, clock).put("k", "v")
    assert await KvNamespace("shared", store, clock).get("k") == "v"


@pytest.mark.parametrize("key", ["ü", "\U0001f600" * 128, "a\0b", "/", "...", "é" * 200, "\uffff", "a" * 512])
async def test_unusual_keys_round_trip(kv, key):
    await kv.put(key, "v", metadata=1)
    await kv.put(key, "w")
    assert await kv.get(key) == "w"
    assert [row.name for row in (await kv.list())["keys"]] == [key]
    await kv.delete(key)
    assert await kv.get(key) is None


async def test_lone_surrogates_become_replacement_characters(kv):
    await kv.put("k\ud800x", "v\udfff")
    assert await kv.get("k\ufffdx") == "v\ufffd"
    assert await kv.get("k\ud800x") == "v\ufffd"


async def test_put_resolves_only_when_durable(clock):
    store = MemoryStore(manual=True)
    kv = KvNamespace("ns", store, clock)
    promise = kv.put("k", "v")
    assert not promise.settled
    assert kv.get("k").result() is None
    store.commit_group()
    assert promise.settled
    assert kv.get("k").result() == "v"


async def test_reads_settle_at_once(kv):
    await kv.put("k", "v")
    for promise in (kv.get("k"), kv.get("k", "json"), kv.getWithMetadata("k"), kv.list(), kv.get(["k"])):
        assert isinstance(promise, Promise)
        assert promise.settled
        if promise.error is not None:
            assert "not JSON" in str(promise.error)


async def test_writes_keep_their_order(clock):
    store = MemoryStore(manual=True)
    kv = KvNamespace("ns", store, clock)
    promises = [kv.put("k", "1"), kv.delete("k"), kv.put("k", "2" * 5000), kv.put("k", "3")]
    while store.commit_group(1):
        pass
    assert all(promise.settled for promise in promises)
    assert kv.get("k").result() == "3"
    with store.snapshot() as snapshot:
        assert len(list(snapshot.keys("kv"))) == 1


async def test_failed_commit_reaches_the_caller(clock):
    async with open_memory_store() as inner:
        kv = KvNamespace("ns", FailingStore(inner, 1), clock)
        with pytest.raises(StoreFailed):
            await kv.put("k", "v")
        assert await kv.get("k") is None


async def test_stream_is_stored_whole(kv):
    async def pieces():
        yield b"ab"
        await trio.lowlevel.checkpoint()
        yield "cd"
        yield b"x" * 5000

    async with running_event():
        await kv.put("k", ReadableStream(pieces()), metadata={"m": 1})
    assert await kv.get("k") == "abcd" + "x" * 5000


async def test_stream_that_fails_writes_nothing(kv):
    async def pieces():
        yield b"ab"
        raise OSError("upload broke")

    await kv.put("k", "before")
    async with running_event():
        with pytest.raises(OSError, match="upload broke"):
            await kv.put("k", ReadableStream(pieces()))
    assert await kv.get("k") == "before"


async def test_stream_is_cut_off_at_the_value_limit(kv):
    sent = 0

    async def pieces():
        nonlocal sent
        while True:
            sent += 1
            yield bytes(1024 * 1024)

    async with running_event():
        with pytest.raises(KvError, match=r"KV PUT failed: 413 Value length of \d+ exceeds limit of 26214400\."):
            await kv.put("k", ReadableStream(pieces()))
    assert sent <= KV_VALUE_MAX // (1024 * 1024) + 1
    assert await kv.get("k") is None


async def test_stream_options_are_checked_before_it_is_read(kv):
    stream = ReadableStream.of_bytes(b"x")
    async with running_event():
        with pytest.raises(KvError, match="at least 60"):
            await kv.put("k", stream, expirationTtl=5)
    assert not stream.disturbed


async def test_value_of_exactly_the_limit_is_taken(kv):
    await kv.put("k", bytes(KV_VALUE_MAX))
    assert len(await kv.get("k", "arrayBuffer")) == KV_VALUE_MAX


async def test_operations_are_counted_on_the_event(kv):
    async with running_event() as event:
        await kv.put("k", "v")
        await kv.get("k")
        await kv.get("k", "text")
        await kv.get(["k", "l", "m"])
        await kv.getWithMetadata("k")
        await kv.list()
        await kv.delete("k")
        assert event.meter.quantities == {
            "kv_reads": 6,
            "kv_writes": 1,
            "kv_deletes": 1,
            "kv_lists": 1,
            "bytes_persisted": 2,
        }


def test_binding_is_truthy_but_no_container(clock):
    kv = KvNamespace("ns", MemoryStore(manual=True), clock)
    assert kv
    with pytest.raises(TypeError, match=r"KvNamespace.*is not iterable"):
        list(kv)
    with pytest.raises(TypeError, match=r"KvNamespace.*has no len"):
        len(kv)
