"""What the public Python tests of workerd and of the SDK assert of Durable Objects, except SQL."""

from datetime import datetime, timedelta
from urllib.parse import urlparse

import pytest
import trio
from durable_object_world import world

from edge_runtime.errors import ActorBroken
from edge_runtime.testing.surroundings import EPOCH_MS
from edge_runtime.workers import DurableObject, Request, Response
from edge_runtime.workers.entrypoints import DurableObjectContext
from edge_runtime.workers.response import FetchResponse
from edge_runtime.workers.websocket_pair import WebSocketPair


class Mixin:
    def from_mixin(self):
        return 1234


class Example(DurableObject, Mixin):
    def __init__(self, state, env):
        super().__init__(state, env)
        assert self.ctx is not None
        assert self.env is not None
        self.storage = state.storage
        self.requests = 0
        self.rang = False

        async def initialise():
            await self.storage.put("initialised", True)

        self.ctx.blockConcurrencyWhile(initialise)

    async def fetch(self, request):
        assert isinstance(request, Request)
        if not await self.storage.getAlarm():
            self.storage.setAlarm(EPOCH_MS + int(trio.current_time() * 1000) + 100)
        if urlparse(request.url).path == "/rang":
            return Response(str(self.rang))
        self.requests += 1
        return Response(f"request {self.requests}")

    async def alarm(self, info):
        self.rang = True

    async def nothing(self):
        return "value"

    async def with_argument(self, text):
        return "value " + text

    def change(self, mine):
        mine["foo"] = 42

    async def call_itself(self):
        mine = {"test": 1}
        self.change(mine)
        return mine

    async def block(self):
        assert await self.storage.get("initialised") is True

        async def inside():
            await self.storage.put("blocked", "yes")
            return 42

        return [await self.ctx.blockConcurrencyWhile(inside), await self.storage.get("blocked")]

    async def storage_of_values(self):
        storage = self.storage
        await storage.deleteAll()
        assert await storage.get("missing") is None
        await storage.put("key", "value")
        assert await storage.get("key") == "value"
        await storage.put({"a": 1, "b": 2, "c": 3, "list:x": 4, "list:y": 5})
        found = await storage.get(["a", "b", "missing"])
        assert (found.get("a"), found.get("b"), found.get("missing")) == (1, 2, None)
        assert await storage.delete("key") is True
        assert await storage.delete("key") is False
        assert await storage.delete(["a", "b", "missing"]) == 2
        assert dict(await storage.list({"prefix": "list:"})) == {"list:x": 4, "list:y": 5}
        assert dict(await storage.list({"prefix": "list:", "limit": 1})) == {"list:x": 4}
        for name, value in {
            "text": "hällo",
            "whole": 7,
            "fraction": 1.5,
            "yes": True,
            "nothing": None,
            "list": [1, [2, "x"]],
            "dict": {"a": {"b": [1]}},
        }.items():
            await storage.put(name, value)
            assert await storage.get(name) == value
        await storage.sync()
        await storage.deleteAll()
        assert dict(await storage.list()) == {}

    async def alarm_times(self):
        storage = self.storage
        await storage.deleteAlarm()
        assert await storage.getAlarm() is None
        due = datetime.fromtimestamp(EPOCH_MS / 1000) + timedelta(minutes=1)
        await storage.setAlarm(due)
        assert await storage.getAlarm() == EPOCH_MS + 60_000
        await storage.deleteAlarm()
        assert await storage.getAlarm() is None

    async def transact(self):
        async def closure(txn):
            await txn.put("key", "in transaction")
            return await txn.get("key")

        return [await self.storage.transaction(closure), await self.storage.get("key")]

    async def echo(self, value):
        return value

    async def whose(self):
        return [self.ctx.id.toString(), self.ctx.id.name]

    async def abort(self):
        self.ctx.abort("test abort reason")

    async def count(self):
        value = (await self.storage.get("count") or 0) + 1
        await self.storage.put("count", value)
        return value


async def test_requests_calls_mixins_and_the_alarm(autojump_clock):
    async with world(Example) as w:

        async def script():
            stub = w.ns["Example"].get(w.ns["Example"].idFromName("A"))
            for number in (1, 2):
                assert await (await stub.fetch("http://foo.com/counter")).text() == f"request {number}"
            assert await stub.nothing() == "value"
            assert await stub.with_argument("test") == "value test"
            assert await stub.block() == [42, "yes"]
            assert await stub.call_itself() == {"test": 1, "foo": 42}
            assert await stub.from_mixin() == 1234
            response = await stub.fetch("http://foo.com/counter")
            assert isinstance(response, FetchResponse)
            assert await response.text() == "request 3"
            await trio.sleep(0.5)
            assert await (await stub.fetch("http://foo.com/rang")).text() == "True"

        await w.run(script)


@pytest.mark.parametrize("method", ["storage_of_values", "alarm_times"])
async def test_storage(method, autojump_clock):
    async with world(Example) as w:
        await w.call("A", method)


async def test_transactions():
    async with world(Example) as w:
        assert await w.call("A", "transact") == ["in transaction", "in transaction"]


async def test_values_cross_and_ids_are_known():
    async with world(Example) as w:
        for value in ("hello", 42, True, None, {"key": "value", "more": [1, 2]}):
            assert await w.call("A", "echo", value) == value
        id = w.ns["Example"].idFromName("A")
        assert await w.call("A", "whose") == [id.toString(), "A"]

        async def script():
            stub = w.ns["Example"].get(id)
            assert stub.id.toString() == id.toString()
            assert stub.name == "A"

        await w.run(script)
        assert id.equals(w.ns["Example"].idFromName("A"))
        assert not id.equals(w.ns["Example"].idFromName("B"))
        assert w.ns["Example"].idFromString(id.toString()).equals(id)


async def test_an_aborted_object_is_made_anew(autojump_clock):
    async with world(Example) as w:

        async def script():
            stub = w.ns["Example"].getByName("A")
            assert await stub.count() == 1
            with pytest.raises(ActorBroken, match="test abort reason"):
                await stub.abort()
            again = w.ns["Example"].getByName("A")
            assert await again.nothing() == "value"
            assert await (await again.fetch("http://foo.com/")).text() == "request 1"
            # workerd's own test keeps nothing on disk, so it counts from 1 again.
            assert await again.count() == 2

        await w.run(script)


class Sockets(DurableObject):
    async def fetch(self, request):
        assert isinstance(request, Request)
        client, server = WebSocketPair.new()
        self.ctx.acceptWebSocket(server)
        return Response(None, status=101, web_socket=client)

    async def webSocketMessage(self, ws, message):
        ws.send("hello to " + message)

    async def webSocketClose(self, ws, code, reason, wasClean):
        await self.ctx.storage.put("closed", [code, wasClean])

    async def closed(self):
        return await self.ctx.storage.get("closed")


async def test_a_socket_through_a_worker_that_passes_its_request_on(autojump_clock):
    async with world(Sockets) as w:

        async def worker(request):
            if request.headers.get("Upgrade") != "websocket":
                return Response(
                    None, status=426, status_text="Expected Upgrade", headers={"Content-Type": "text/plain"}
                )
            return await w.ns["Sockets"].getByName("A").fetch(request)

        async def script():
            refused = await worker(Request("http://example.com/websocket"))
            assert (refused.status, refused.status_text) == (426, "Expected Upgrade")
            response = await worker(Request("http://example.com/websocket", headers={"Upgrade": "websocket"}))
            socket, got, heard = response.web_socket, [], trio.Event()

            def on_message(event):
                got.append(event.data)
                heard.set()

            socket.accept()
            socket.addEventListener("message", on_message)
            socket.send("test")
            await heard.wait()
            socket.close()
            await trio.sleep(1)
            return [got, list(await w.ns["Sockets"].getByName("A").closed())]

        assert await w.run(script) == [["hello to test"], [1005, True]]


class Base(DurableObject):
    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        assert isinstance(self.ctx, DurableObjectContext)

    async def shared(self):
        return "from base"


class Leaf(Base):
    async def hello(self):
        return "from leaf"


class LeafWithInit(Base):
    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        self.custom = "custom"

    async def hello(self):
        return self.custom


class Redundant(Base, DurableObject):
    async def hello(self):
        return "from redundant"


@pytest.mark.parametrize(
    ("cls", "said"), [(Leaf, "from leaf"), (LeafWithInit, "custom"), (Redundant, "from redundant")]
)
async def test_classes_may_derive_from_one_another(cls, said):
    async with world(cls) as w:
        assert await w.call("a", "hello") == said
        assert await w.call("a", "shared") == "from base"
