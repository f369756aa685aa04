"""Rules of Durable Objects at their edges: parts by jurisdiction, what is left after a reset, recovery, iterators."""

import pytest
import trio
from durable_object_world import world

from edge_runtime.errors import ActorBroken
from edge_runtime.store.memory_store import FailingStore, MemoryStore
from edge_runtime.testing.surroundings import EPOCH_MS
from edge_runtime.workers import DurableObject
from edge_runtime.workers.js_object import JsException

NO_RECOVERY = "This Durable Object's storage back-end does not implement point-in-time recovery."
seen = []


@pytest.fixture(autouse=True)
def _forget():
    seen.clear()


class Box(DurableObject):
    async def put(self, value):
        await self.ctx.storage.put("value", value)

    async def get(self):
        return await self.ctx.storage.get("value")

    def where(self):
        return [self.ctx.id.name, self.ctx.id.jurisdiction]

    def set_alarm(self, in_ms):
        self.ctx.storage.setAlarm(EPOCH_MS + in_ms)

    async def alarm(self):
        seen.append((self.ctx.id.name, self.ctx.id.jurisdiction, self.ctx.id.toString()))

    async def members(self):
        found = [self.ctx.container, self.ctx.version, dict(self.ctx.props)]
        await self.ctx.configureReadReplication({"mode": "auto"})
        await self.ctx.configure_read_replication(mode="disabled")
        try:
            await self.ctx.configureReadReplication({"mode": "twice"})
        except TypeError as error:
            found.append(str(error))
        return found

    async def fail(self, kind):
        raise {"type": TypeError, "key": KeyError}[kind]("on purpose")

    async def outlive_abort(self):
        try:
            self.ctx.abort("over")
        finally:
            await self._use_everything()

    async def fail_to_write(self):
        await self.ctx.storage.put("value", 1)
        try:
            await self.ctx.storage.sync()
        finally:
            await self._use_everything()

    async def _use_everything(self):
        storage = self.ctx.storage
        for use in (
            lambda: storage.get("value"),
            lambda: storage.get(["value"]),
            lambda: storage.put("late", 1),
            lambda: storage.put({"late": 1}),
            lambda: storage.delete("value"),
            lambda: storage.list(),
            lambda: storage.deleteAll(),
            lambda: storage.sync(),
            lambda: storage.getAlarm(),
            lambda: storage.setAlarm(1),
            lambda: storage.deleteAlarm(),
        ):
            try:
                await use()
            except ActorBroken as error:
                seen.append(str(error))
        for use in (
            lambda: storage.kv.get("value"),
            lambda: storage.kv.put("late", 1),
            lambda: storage.kv.delete("value"),
            lambda: storage.kv.list(),
        ):
            try:
                use()
            except ActorBroken as error:
                seen.append(str(error))

    async def recover(self, method, *args):
        await getattr(self.ctx.storage, method)(*args)

    def two_lists(self):
        self.ctx.storage.put({"a": 1, "b": 2})
        first = self.ctx.storage.kv.list()
        assert next(first) == ["a", 1]
        assert list(self.ctx.storage.kv.list(prefix="b")) == [["b", 2]]
        next(first)


async def test_a_jurisdiction_has_objects_of_its_own(autojump_clock):
    async with world(Box) as w:
        namespace = w.ns["Box"]
        eu, us = namespace.jurisdiction("eu"), namespace.jurisdiction("us")
        assert namespace.jurisdiction(None) is namespace

        async def script():
            await eu.getByName("a").put("eu")
            assert await us.getByName("a").get() is None
            assert await namespace.getByName("a").get() is None
            assert await namespace.get(namespace.idFromString(eu.idFromName("a").toString())).get() == "eu"
            unique = namespace.newUniqueId(jurisdiction="eu")
            assert unique.jurisdiction == "eu"
            assert await eu.get(unique).where() == [None, "eu"]
            return await eu.getByName("a").where()

        assert await w.run(script) == ["a", "eu"]
        different = "get called on jurisdictional subnamespace with an ID from a different jurisdiction"
        for id in (us.idFromName("a"), namespace.idFromName("a"), us.newUniqueId()):
            with pytest.raises(TypeError, match=different):
                eu.get(id)


async def test_name_and_jurisdiction_are_known_in_the_alarm_of_an_object_that_was_evicted(autojump_clock):
    async with world(Box, idle_ms=1000) as w:
        id = w.ns["Box"].jurisdiction("eu").idFromName("a")

        async def script():
            await w.ns["Box"].get(id).set_alarm(60_000)

        await w.run(script)
        await trio.sleep(30)
        assert [name for name, _ in w.events.ended].count("Box.constructor") == 1
        assert not w.host._activations
        await trio.sleep(31)
        assert [name for name, _ in w.events.ended].count("Box.constructor") == 2
    assert seen == [("a", "eu", id.toString())]


async def test_storage_is_closed_to_code_that_outlives_an_abort(autojump_clock):
    async with world(Box) as w:
        await w.call("a", "put", "kept")
        with pytest.raises(ActorBroken, match="over"):
            await w.call("a", "outlive_abort")
        assert await w.call("a", "get") == "kept"
        assert seen == ["over"] * 15


async def test_storage_is_closed_to_code_that_outlives_a_broken_output_gate(autojump_clock):
    async with world(Box, store=FailingStore(MemoryStore(), 1)) as w:
        with pytest.raises(ActorBroken, match="storage operation failed which caused object to be reset"):
            await w.call("a", "fail_to_write")
        await trio.sleep(1)
        assert seen == ["Durable Object storage operation failed which caused object to be reset."] * 15


@pytest.mark.parametrize(
    ("method", "args"),
    [
        ("getCurrentBookmark", ()),
        ("getBookmarkForTime", (0,)),
        ("onNextSessionRestoreBookmark", ("b",)),
        ("waitForBookmark", ("b",)),
    ],
)
async def test_point_in_time_recovery_is_refused_with_workerds_words(method, args):
    async with world(Box) as w:
        with pytest.raises(JsException, match=NO_RECOVERY):
            await w.call("a", "recover", method, *args)


async def test_a_new_kv_list_ends_the_one_before():
    async with world(Box) as w:
        with pytest.raises(JsException, match=r"kv\.list\(\) iterator was invalidated because a new call"):
            await w.call("a", "two_lists")


async def test_what_is_not_configured_is_absent_or_refused_in_workerds_words():
    async with world(Box) as w:

        async def script():
            return await w.ns["Box"].getByName("a").members()

        assert await w.run(script) == [
            None,
            None,
            {},
            "configureReadReplication() called with unknown mode setting: twice.",
        ]


async def test_errors_carry_cloudflares_flags_and_the_id_of_their_object():
    async with world(Box) as w:

        async def script():
            found = []
            stub = w.ns["Box"].getByName("a")
            for call in (
                lambda stub: stub.fail("type"),
                lambda stub: stub.fail("key"),
                lambda stub: stub.missing(),
                lambda stub: stub.outlive_abort(),
                lambda stub: stub.get(),
            ):
                try:
                    await call(stub)
                except Exception as error:
                    flags = (error.remote, error.retryable, error.overloaded, error.durableObjectReset)
                    found.append((*flags, error.durableObjectId == stub.id.toString()))
            try:
                await stub.get((1, 2))
            except TypeError as error:
                found.append(hasattr(error, "remote"))
            return found

        failed, reset = (True, False, False, False, True), (True, False, False, True, True)
        assert await w.run(script) == [failed, failed, failed, reset, reset, False]
