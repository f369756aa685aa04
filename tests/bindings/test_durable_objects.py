import pytest
import trio
from durable_object_world import world
from trio.testing import wait_all_tasks_blocked

from edge_runtime.errors import ActorBroken
from edge_runtime.event import Outcome
from edge_runtime.store.api import Table
from edge_runtime.store.memory_store import MemoryStore
from edge_runtime.workers import DurableObject, Response
from edge_runtime.workers.entrypoints import DurableObjectAbort
from edge_runtime.workers.js_object import JsException


class Counter(DurableObject):
    async def increment(self, by=1):
        value = (await self.ctx.storage.get("value") or 0) + by
        self.ctx.storage.put("value", value)
        return value

    def read(self):
        return self.ctx.storage.kv.get("value")

    async def fetch(self, request):
        return Response(f"{request.method} {request.url} {await self.increment()}")

    async def fail(self, kind):
        raise {"type": TypeError, "value": UnicodeError, "other": KeyError}[kind]("no such thing")

    def echo(self, *args):
        self.seen = args
        return list(args)

    def give_tuple(self):
        return (1, 2)

    async def hang(self):
        await trio.sleep_forever()

    async def abort(self):
        self.ctx.storage.put("lost", 1)
        try:
            self.ctx.abort("enough")
        except Exception:
            return "swallowed"

    async def slow_increment(self):
        value = await self.ctx.storage.get("value") or 0
        await self.ctx.storage.put("value", value + 1)
        return await self.ctx.storage.get("value")

    async def who(self):
        return [self.ctx.id.toString(), self.ctx.id.name]

    def wait_until(self, seconds):
        async def work():
            await trio.sleep(seconds)
            self.ctx.storage.put("waited", True)

        self.ctx.waitUntil(work())


async def test_methods_are_called_in_order_and_state_is_kept(autojump_clock):
    async with world(Counter) as w:

        async def script():
            stub = w.ns["Counter"].getByName("a")
            promises = [stub.increment() for _ in range(20)]
            return [await promise for promise in promises]

        assert await w.run(script) == list(range(1, 21))
        assert await w.call("a", "read") == 20
        assert await w.call("b", "read") is None


async def test_state_survives_eviction_and_restart(autojump_clock):
    store = MemoryStore()
    async with world(Counter, store=store) as w:
        await w.call("a", "increment", 5)
        await trio.sleep(30)
        assert w.host.active == 0
        assert await w.call("a", "increment") == 6
    async with world(Counter, store=store.crash()) as w:
        assert await w.call("a", "increment") == 7


async def test_reply_waits_for_the_write():
    store = MemoryStore(manual=True)
    async with world(Counter, store=store) as w:
        done = []

        async def call():
            done.append(await w.call("a", "increment"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await wait_all_tasks_blocked()
            assert done == []
            assert store.queued == 1
            store.commit_group()
        assert done == [1]


async def test_read_modify_write_across_storage_awaits_is_atomic(autojump_clock):
    async with world(Counter) as w:

        async def script():
            promises = [w.ns["Counter"].getByName("a").slow_increment() for _ in range(50)]
            return sorted([await promise for promise in promises])

        assert await w.run(script) == list(range(1, 51))


async def test_fetch_passes_requests_and_responses(autojump_clock):
    async with world(Counter) as w:

        async def script():
            stub = w.ns["Counter"].getByName("a")
            response = await stub.fetch("https://object/path", method="POST", body="x")
            return response.status, await response.text()

        assert await w.run(script) == (200, "POST https://object/path 1")
        assert w.events.ended[-2:] == [("Counter.fetch", Outcome.OK), ("Default.fetch", Outcome.OK)]


@pytest.mark.parametrize(
    ("kind", "seen", "message"),
    [
        ("type", TypeError, "no such thing"),
        ("value", ValueError, "no such thing"),
        ("other", Exception, "'no such thing'"),
    ],
)
async def test_errors_reach_the_caller_as_remote_and_the_object_lives_on(kind, seen, message):
    async with world(Counter) as w:
        await w.call("a", "echo", 1)
        with pytest.raises(seen) as raised:
            await w.call("a", "fail", kind)
        assert type(raised.value) is seen
        assert str(raised.value) == message
        assert raised.value.remote is True
        assert "in fail" in w.events.errors[0]
        assert ("Counter.fail", Outcome.EXCEPTION) in w.events.ended
        assert [name for name, _ in w.events.ended].count("Counter.constructor") == 1


@pytest.mark.parametrize("name", ["missing", "alarms", "env", "ctx"])
async def test_missing_method(name):
    async with world(Counter) as w:
        with pytest.raises(TypeError, match=f"Method {name} does not exist"):
            await w.call("a", name)


@pytest.mark.parametrize("name", ["alarm", "webSocketMessage", "dup", "constructor", "connect"])
async def test_reserved_method(name):
    async with world(Counter) as w:
        with pytest.raises(TypeError, match=f"'{name}' is a reserved method and cannot be called over RPC."):
            await w.call("a", name)


async def test_private_names_are_not_callable():
    async with world(Counter) as w:
        with pytest.raises(AttributeError):
            _ = w.ns["Counter"].getByName("a")._private


async def test_arguments_are_copies_and_keywords_one_trailing_dict():
    async with world(Counter) as w:
        mine = {"list": [1, 2]}

        async def script():
            promise = w.ns["Counter"].getByName("a").echo(mine, b"raw", flag=True)
            mine["list"].append(3)
            return await promise

        first, raw, options = await w.run(script)
        assert first == {"list": [1, 2]}
        assert first.list == [1, 2]
        assert bytes(raw) == b"raw"
        assert options == {"flag": True}


async def test_values_that_cannot_cross_are_refused():
    async with world(Counter) as w:
        with pytest.raises(TypeError, match="tuple"):
            await w.call("a", "echo", (1, 2))
        with pytest.raises(TypeError, match="tuple"):
            await w.call("a", "give_tuple")


class Large(DurableObject):
    async def take(self, *values):
        return len(values)

    async def give(self, kind):
        return LARGE[kind]()


LARGE = {
    "bytes": lambda: b"x" * (33 << 20),
    "text": lambda: "\N{LATIN SMALL LETTER A WITH DIAERESIS}" * (17 << 20),
    "nested": lambda: {"in": [["x" * (11 << 20)] * 3]},
    "a large int beside": lambda: ["x" * (9 << 20), 1 << 70, b"x" * (25 << 20)],
}


@pytest.mark.parametrize("kind", LARGE)
async def test_more_than_32_mib_are_refused_by_rpc_within_an_isolate_too(kind):
    limited = "Serialized RPC arguments or return values are limited to 32MiB, but the size of this value was: "
    async with world(Large) as w:
        for method, args in (("take", [LARGE[kind]()]), ("give", [kind])):
            with pytest.raises(JsException, match=limited):
                await w.call("a", method, *args)
        assert await w.call("a", "take", "x" * (32 << 20)) == 1


async def test_abort_drops_unwritten_values_and_fails_what_is_in_flight(autojump_clock):
    store = MemoryStore()
    async with world(Counter, store=store) as w:

        async def script():
            stub = w.ns["Counter"].getByName("a")
            hanging, aborting = stub.hang(), stub.abort()
            for promise in (hanging, aborting):
                with pytest.raises(ActorBroken, match="enough") as broken:
                    await promise
                assert broken.value.remote
                assert broken.value.durableObjectReset
            with pytest.raises(ActorBroken, match="enough"):
                await stub.increment()
            return await w.ns["Counter"].getByName("a").increment()

        assert await w.run(script) == 1
        assert [name for name, _ in w.events.ended].count("Counter.constructor") == 2
        await trio.sleep(1)
        assert all(b"lost" not in key for key in store._image[Table.OBJECTS].order)


async def test_abort_is_not_caught_as_exception():
    assert not issubclass(DurableObjectAbort, Exception)


async def test_name_and_id_are_known_inside():
    async with world(Counter) as w:
        id = w.ns["Counter"].idFromName("a")
        assert await w.call("a", "who") == [id.toString(), "a"]

        async def script():
            return await w.ns["Counter"].get(w.ns["Counter"].newUniqueId()).who()

        assert (await w.run(script))[1] is None


async def test_wait_until_keeps_the_object_in_memory(autojump_clock):
    store = MemoryStore()
    async with world(Counter, store=store, idle_ms=1000) as w:
        assert await w.call("a", "wait_until", 20) is None
        await trio.sleep(25)
        assert [name for name, _ in w.events.ended].count("Counter.constructor") == 1
        assert any(b"waited" in key for key in store._image[Table.OBJECTS].order)
        await trio.sleep(10)
        await w.call("a", "read")
        assert [name for name, _ in w.events.ended].count("Counter.constructor") == 2


class Broken(DurableObject):
    def __init__(self, ctx, env):
        raise RuntimeError("cannot be made")

    def anything(self):
        return 1


async def test_failing_constructor_fails_the_call():
    async with world(Broken) as w:
        for _ in range(2):
            with pytest.raises(Exception, match="cannot be made"):
                await w.call("a", "anything")


class Caller(DurableObject):
    async def relay(self):
        self.ctx.storage.put("before", True)
        return await self.env["Counter"].getByName("a").increment()


async def test_calls_of_an_object_wait_at_its_output_gate():
    async with world(Caller, Counter, store=MemoryStore(manual=True)) as w, trio.open_nursery() as nursery:
        nursery.start_soon(w.call, "x", "relay")
        await wait_all_tasks_blocked()
        assert w.store.queued == 1
        assert [name for name, _ in w.events.ended] == ["Caller.constructor"]
        w.store.commit_group()
        await wait_all_tasks_blocked()
        assert ("Counter.increment", Outcome.OK) in w.events.ended
        w.store.commit_group()


class Telling(DurableObject):
    async def write_around_a_call(self):
        self.ctx.storage.put("before", 1)
        calling = self.env["Counter"].getByName("a").increment()
        self.ctx.storage.put("after", 1)
        return await calling

    async def relay_abort(self):
        await self.env["Counter"].getByName("a").abort()

    def keep_error(self):
        self.ctx.storage.put("error", {"was": [ValueError("stored")]})
        return str(self.ctx.storage.kv.get("error").was[0])

    def wait_for_abort(self):
        async def work():
            await trio.sleep(1)
            self.ctx.abort("in the background")

        self.ctx.waitUntil(work())


async def test_writes_around_a_call_in_one_turn_commit_together():
    store = MemoryStore(manual=True)
    async with world(Telling, Counter, store=store) as w, trio.open_nursery() as nursery:
        nursery.start_soon(w.call, "x", "write_around_a_call")
        await wait_all_tasks_blocked()
        assert store.queued == 1
        store.commit_group()
        assert len(store._image[Table.OBJECTS].order) == 2
        await wait_all_tasks_blocked()
        store.commit_group()


async def test_the_reset_of_another_object_is_an_ordinary_error_to_the_caller_of_this_one():
    async with world(Telling, Counter) as w:

        async def script():
            stub = w.ns["Telling"].getByName("x")
            with pytest.raises(Exception, match="enough") as raised:
                await stub.relay_abort()
            assert not isinstance(raised.value, ActorBroken)
            return await stub.keep_error()

        assert await w.run(script) == "Error: stored"


async def test_abort_in_the_background_resets_the_object_and_nothing_else(autojump_clock):
    async with world(Telling) as w:
        await w.call("x", "wait_for_abort")
        await trio.sleep(5)
        assert await w.call("x", "keep_error") == "Error: stored"
        assert [name for name, _ in w.events.ended].count("Telling.constructor") == 2


@pytest.mark.parametrize("crash_after", range(12))
async def test_no_acknowledged_write_is_lost_wherever_the_process_dies(crash_after):
    store, acknowledged = MemoryStore(manual=True), []
    async with world(Counter, store=store) as w, trio.open_nursery() as nursery:

        async def script():
            stub = w.ns["Counter"].getByName("a")
            while True:
                acknowledged.append(await stub.increment())

        nursery.start_soon(w.run, script)
        for _ in range(crash_after):
            await wait_all_tasks_blocked()
            store.commit_group(1)
        await wait_all_tasks_blocked()
        store = store.crash()
        nursery.cancel_scope.cancel()
    assert acknowledged == list(range(1, crash_after + 1))
    async with world(Counter, store=store) as w:
        assert (await w.call("a", "read") or 0) == crash_after
