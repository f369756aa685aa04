"""Objects and workflows reached from other isolates and other workers, in real servers."""

import json

import pytest
import trio
from edge_process import EdgeProcess, eventually
from websocket_client import connected

SHOP = """
import asyncio, os
from workers import DurableObject, Response, WorkerEntrypoint, WorkflowEntrypoint
from workers.rpc import RpcTarget
from js import WebSocketPair


class Tally(RpcTarget):
    def __init__(self):
        self.total = 0

    def add(self, amount):
        self.total += amount
        return self.total


class Basket(DurableObject):
    async def where(self):
        return os.getpid()

    async def echo(self, *values):
        return list(values)

    async def kinds(self, *values):
        return [type(value).__name__ for value in values]

    async def fail(self, kind):
        raise {"type": TypeError, "value": ValueError, "key": KeyError}[kind]("on purpose")

    async def end(self):
        os._exit(1)

    async def order(self, number):
        seen = await self.ctx.storage.get("seen") or []
        await self.ctx.storage.put("seen", [*seen, number])
        return [*seen, number]

    async def call(self, function, count):
        return [await function(number) for number in range(count)]

    async def tally(self):
        return Tally()

    async def keep(self, function):
        self.kept = function.dup()
        self.lent = function

    async def use(self, which):
        return await getattr(self, which)()

    async def through(self, stub):
        return await stub.where()

    async def webSocketMessage(self, socket, message):
        for each in self.ctx.getWebSockets():
            each.send(message.upper() if isinstance(message, str) else bytes(message) * 2)

    async def webSocketClose(self, socket, code, reason, clean):
        await self.ctx.storage.put("closed", [code, reason])

    async def closed(self):
        return await self.ctx.storage.get("closed")

    async def fetch(self, request):
        if request.url.endswith("/socket"):
            client, server = WebSocketPair.new().object_values()
            self.ctx.acceptWebSocket(server)
            return Response(None, status=101, web_socket=client)
        if request.url.endswith("/slow"):
            async def pieces():
                for number in range(4):
                    yield b"%d" % number * 300_000
                    await self.ctx.storage.put("sent", number)
            return Response(pieces(), headers={"x-pid": str(os.getpid())})
        size = 0
        async for piece in request.body:
            size += len(piece)
        return Response.json({"method": request.method, "size": size, "pid": os.getpid()}, status=201)


class Order(WorkflowEntrypoint):
    async def run(self, event, step):
        return {"got": event.payload, "pid": os.getpid()}


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        return Response("shop")
"""

DESK = """
import os
from datetime import datetime
from workers import Response, WorkerEntrypoint


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        action = request.url.rsplit("/", 1)[1]
        if action == "socket":
            return await self.stub("talk").fetch(request)
        return Response.json(await getattr(self, action)(), headers={"x-me": str(os.getpid())})

    def stub(self, name="a"):
        return self.env.BASKETS.getByName(name)

    async def where(self):
        return {"pids": [await self.stub(f"n{number}").where() for number in range(40)], "me": os.getpid()}

    async def values(self):
        moment = datetime(2026, 5, 1, 12, 30)
        sent = [None, 1.5, "x", b"bytes", {"a": [1, {2, 3}]}, moment, ValueError("v")]
        back = await self.stub().echo(*sent)
        kinds = await self.stub().kinds(*sent)
        found = {"kinds": list(kinds), "same": back[5] == moment, "bytes": bytes(back[3]).decode()}
        return {**found, "set": sorted(back[4].a[1])}

    async def errors(self):
        found = []
        for kind in ("type", "value", "key"):
            try:
                await self.stub().fail(kind)
            except Exception as error:
                found.append([type(error).__name__, str(error), error.remote])
        try:
            self.stub().echo((1, 2))
            await self.stub().echo((1, 2))
        except TypeError as error:
            found.append(str(error))
        try:
            await self.stub().missing()
        except TypeError as error:
            found.append(str(error))
        return found

    async def lost(self):
        stub = self.stub("lost")
        found = []
        for _ in range(2):
            try:
                await stub.end()
            except Exception as error:
                found.append([str(error), error.retryable, error.overloaded, error.durableObjectReset])
        return [*found, await self.stub("lost").where() > 0]

    async def order(self):
        stub = self.stub("order")
        promises = [stub.order(number) for number in range(50)]
        return list([await promise for promise in promises][-1])

    async def functions(self):
        seen = []
        async def function(number):
            seen.append(number)
            return number * 10
        stub = self.stub()
        results = await stub.call(function, 3)
        tally = await stub.tally()
        totals = [await tally.add(2), await tally.add(3)]
        copy = tally.dup()
        tally.dispose()
        try:
            await tally.add(1)
        except Exception as error:
            disposed = str(error)
        await stub.keep(lambda: "kept")
        kept = await stub.use("kept")
        try:
            lent = await stub.use("lent")
        except Exception as error:
            lent = str(error)
        through = await stub.through(self.stub("b")) == await self.stub("b").where()
        return {"results": list(results), "seen": seen, "totals": totals, "copy": await copy.add(1),
                "disposed": disposed, "kept": kept, "lent": lent, "through": through}

    async def stream(self):
        response = await self.stub().fetch("http://object/slow")
        sizes = [len(piece) async for piece in response.body]
        async def upload():
            for _ in range(5):
                yield b"u" * 200_000
        up = await self.stub().fetch("http://object/up", method="PUT", body=upload())
        return {"down": sum(sizes), "most": max(sizes), "up": await up.json(), "status": up.status}

    async def missing(self):
        found = []
        for name in ("GONE", "NOCLASS"):
            try:
                await getattr(self.env, name).getByName("a").where()
            except Exception as error:
                found.append(str(error))
        return found

    async def closed(self):
        return await self.stub("talk").closed()

    async def flow(self):
        instance = await self.env.FLOW.create(params={"n": 1})
        return instance.id
"""


def write(folder, name, script, **config):
    folder.mkdir()
    (folder / "entry.py").write_text(script)
    settings = {"name": name, "main": "entry.py", "compatibility_date": "2026-05-01", **config}
    (folder / "wrangler.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="module", params=["trio", "asyncio"])
def edge(request, tmp_path_factory):
    root = tmp_path_factory.mktemp("workers")
    write(
        root / "shop",
        "shop",
        SHOP,
        migrations=[{"tag": "v1", "new_sqlite_classes": ["Basket"]}],
        workflows=[{"binding": "ORDERS", "name": "orders", "class_name": "Order"}],
        routes=["/shop/*"],
        edge={"instances": 3, "flavour": request.param},
    )
    bindings = [
        {"name": "BASKETS", "class_name": "Basket", "script_name": "shop"},
        {"name": "GONE", "class_name": "Basket", "script_name": "nowhere"},
        {"name": "NOCLASS", "class_name": "Nothing", "script_name": "shop"},
    ]
    write(
        root / "desk",
        "desk",
        DESK,
        durable_objects={"bindings": bindings},
        workflows=[{"binding": "FLOW", "name": "orders", "class_name": "Order", "script_name": "shop"}],
        edge={"flavour": request.param},
    )
    with EdgeProcess("run", root, "--port", 0, "--data", tmp_path_factory.mktemp("data")) as edge:
        edge.wait_ready()
        wait_placed(edge)
        yield edge


def wait_placed(edge):
    """Objects move as the isolates start; what they keep in memory does not, nor do their sockets."""
    eventually(lambda: len(set(ask(edge, "where")["pids"])) == 3)


def ask(edge, action):
    with edge.client() as client:
        answer = client.get(f"/{action}")
        assert answer.status_code == 200, edge.output
        return answer.json()


def test_another_workers_isolates_share_its_objects(edge):
    first, second = ask(edge, "where"), ask(edge, "where")
    assert first["pids"] == second["pids"]
    assert first["me"] not in first["pids"]


def test_values_arrive_as_by_rpc_in_one_isolate(edge):
    assert ask(edge, "values") == {
        "kinds": ["NoneType", "float", "str", "memoryview", "JsDict", "datetime", "Exception"],
        "same": True,
        "bytes": "bytes",
        "set": [2, 3],
    }


def test_errors_keep_their_class_where_cloudflare_keeps_it(edge):
    found = ask(edge, "errors")
    assert found[:3] == [
        ["TypeError", "on purpose", True],
        ["ValueError", "on purpose", True],
        ["Exception", "'on purpose'", True],
    ]
    assert "cannot be sent over RPC" in found[3]
    assert "missing" in found[4]


def test_calls_on_a_stub_arrive_in_order(edge):
    assert ask(edge, "order") == list(range(50))


def test_bodies_are_streamed_both_ways(edge):
    found = ask(edge, "stream")
    assert found["down"] == 1_200_000
    assert found["most"] <= 65536
    assert found["status"] == 201
    assert (found["up"]["method"], found["up"]["size"]) == ("PUT", 1_000_000)


def test_functions_and_objects_go_by_reference(edge):
    found = ask(edge, "functions")
    lent = found.pop("lent")
    assert found == {
        "results": [0, 10, 20],
        "seen": [0, 1, 2],
        "totals": [2, 5],
        "copy": 6,
        "disposed": "Error: RPC stub used after being disposed.",
        "kept": "kept",
        "through": True,
    }
    assert "disposed" in lent


def test_unknown_workers_and_classes_are_named(edge):
    gone, no_class = ask(edge, "missing")
    assert "'nowhere'" in gone
    assert "other workers here: shop" in gone
    assert "'Nothing'" in no_class
    assert "Basket" in no_class


def test_death_of_an_isolate_is_a_lost_connection_and_breaks_the_stub(edge):
    first, again, alive = ask(edge, "lost")
    assert first == again == ["Network connection lost.", True, False, False]
    assert alive
    wait_placed(edge)


async def test_websockets_of_clients_reach_objects_elsewhere(edge):
    async with connected(edge.port, "/socket") as one, connected(edge.port, "/socket") as other:
        await one.send("hello")
        assert [await one.receive(), await other.receive()] == ["HELLO", "HELLO"]
        await other.send(b"ab")
        assert [await one.receive(), await other.receive()] == [b"abab", b"abab"]
        await one.close(4000, "enough")
        await trio.to_thread.run_sync(eventually, lambda: ask(edge, "closed") == [4000, "enough"])
        await other.send("still")
        assert await other.receive() == "STILL"


def test_workflow_of_another_worker_is_created_and_run_there(edge):
    id = ask(edge, "flow")
    edge.wait_for(f"{id} complete")
