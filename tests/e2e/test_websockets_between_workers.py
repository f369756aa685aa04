"""WebSockets that pass through workers and objects, and those that they open themselves, in real servers."""

import json
import subprocess
from contextlib import asynccontextmanager

import pytest
import trio
from edge_process import EDGE, PATIENCE_S, EdgeProcess, eventually
from websocket_client import Refused, WebSocketClient, connected

UPSTREAM = """
import os
from js import WebSocketPair
from workers import DurableObject, Response, WorkerEntrypoint


class Echo(DurableObject):
    async def fetch(self, request):
        if request.headers.get("upgrade") != "websocket":
            return Response(f"object {self.ctx.id.name} in {os.getpid()}", status=426)
        client, server = WebSocketPair.new()
        self.ctx.acceptWebSocket(server)
        return Response(None, status=101, web_socket=client)

    async def webSocketMessage(self, socket, message):
        socket.send(f"{self.ctx.id.name} {message}")


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        which = request.url.rsplit("/", 1)[1]
        if which == "refused":
            return Response("not for you", status=403)
        if which != "plain":
            return await self.env.ECHO.getByName(which).fetch(request)
        client, server = WebSocketPair.new()
        server.accept()
        server.addEventListener("message", lambda event: server.send("plain " + event.data))
        server.send("welcome")
        return Response(None, status=101, web_socket=client)
"""

CALLER = """
import js
from pyodide.ffi import create_proxy
from workers import DurableObject, Response, WorkerEntrypoint, fetch

server = None


class Consumer(DurableObject):
    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        self.socket = None

    async def begin(self, url):
        self.socket = socket = js.WebSocket.new(url)
        for kind in ("open", "message", "error", "close"):
            socket.addEventListener(kind, create_proxy(getattr(self, "on_" + kind)))
        return socket.readyState

    async def on_open(self, event):
        await self.ctx.storage.setAlarm(1)

    async def alarm(self):
        self.socket.send("from the alarm")

    def on_message(self, event):
        self.ctx.storage.kv.put("heard", [*(self.ctx.storage.kv.get("heard") or []), event.data])

    def on_error(self, event):
        self.ctx.storage.kv.put("heard", ["error"])

    async def on_close(self, event):
        self.ctx.abort("the server went away")

    async def say(self, text):
        self.socket.send(text)

    async def heard(self):
        return [self.socket is not None, *(await self.ctx.storage.get("heard") or [])]

    async def doubled(self, number):
        inner = self.ctx.facets.get("inner", lambda: {"class": self.ctx.exports.Inner})
        return [await self.ctx.exports.Side.double(number), await inner.count(), await inner.count()]

    async def fetch(self, request):
        return await fetch(server + "/upstream/deep", headers={"Upgrade": "websocket"})


class Inner(DurableObject):
    async def count(self):
        self.ctx.storage.kv.put("count", (self.ctx.storage.kv.get("count") or 0) + 1)
        return self.ctx.storage.kv.get("count")


class Side(WorkerEntrypoint):
    async def double(self, number):
        return number * 2

    async def fetch(self, request):
        return await self.env.CONSUMER.getByName("a").fetch(request)


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        global server
        how, _, rest = request.url.split("/", 3)[3].partition("/")
        if how == "server":
            server = await request.text()
            return Response.json(None)
        stub = self.env.CONSUMER.getByName("a")
        if how == "elsewhere":
            return await self.env.ECHO.getByName(rest).fetch(request)
        if how == "object":
            return await stub.fetch(request)
        if how == "proxy":
            return await fetch(f"{server}/upstream/{rest}", headers=request.headers)
        if how == "pump":
            there = (await fetch(server + "/upstream/plain", headers={"upgrade": "websocket"})).web_socket
            client, here = js.WebSocketPair.new()
            there.accept()
            here.accept()
            there.addEventListener("message", lambda event: here.send("pumped " + event.data))
            here.addEventListener("message", lambda event: there.send(event.data))
            here.addEventListener("close", lambda event: there.close(event.code, event.reason))
            return Response(None, status=101, web_socket=client)
        if how == "side":
            return await self.ctx.exports.Side.fetch(request)
        if how == "exports":
            own = self.ctx.exports.Consumer.getByName("exports")
            return Response.json([list(self.ctx.exports), await own.doubled(21)])
        call = getattr(stub, how)
        return Response.json(await (call() if how == "heard" else call(await request.text())))
"""


def write(folder, name, script, **config):
    folder.mkdir()
    (folder / "entry.py").write_text(script)
    settings = {"name": name, "main": "entry.py", "compatibility_date": "2026-05-01", **config}
    (folder / "wrangler.json").write_text(json.dumps(settings))


@pytest.fixture(scope="module")
def edge(tmp_path_factory):
    root = tmp_path_factory.mktemp("workers")
    write(
        root / "upstream",
        "upstream",
        UPSTREAM,
        durable_objects={"bindings": [{"name": "ECHO", "class_name": "Echo"}]},
        migrations=[{"tag": "v1", "new_sqlite_classes": ["Echo"]}],
        routes=["/upstream/*"],
        edge={"instances": 2},
    )
    write(
        root / "caller",
        "caller",
        CALLER,
        durable_objects={
            "bindings": [
                {"name": "CONSUMER", "class_name": "Consumer"},
                {"name": "ECHO", "class_name": "Echo", "script_name": "upstream"},
            ]
        },
        migrations=[{"tag": "v1", "new_sqlite_classes": ["Consumer"]}],
        compatibility_flags=["python_workers"],
    )
    with EdgeProcess("run", root, "--port", 0, "--data", tmp_path_factory.mktemp("data")) as edge:
        edge.wait_ready()
        with edge.client() as client:
            # Objects move as the isolates start, and sockets do not move with them.
            eventually(lambda: len({client.get(f"/upstream/{name}").text.split()[-1] for name in "abcdefgh"}) == 2)
        ask(edge, "/server", f"http://127.0.0.1:{edge.port}")
        yield edge


def ask(edge, path, text=""):
    with edge.client() as client:
        answer = client.post(path, content=text)
        assert answer.status_code == 200, edge.output
        return answer.json()


@pytest.mark.parametrize("where", ["upstream", "elsewhere", "proxy"])
async def test_a_socket_reaches_objects_in_every_isolate(edge, where):
    """By the worker's own binding, by `script_name`, and by fetch; the objects live in two isolates."""
    for name in ("a", "b", "c", "d"):
        async with connected(edge.port, f"/{where}/{name}") as client:
            await client.send("hi")
            assert await client.receive() == f"{name} hi"
            await client.close(4000, "enough")
            assert await client.receive() == (4000, "enough")


@pytest.mark.parametrize("where", ["upstream", "proxy"])
async def test_a_refusal_comes_back_as_it_was_given(edge, where):
    with pytest.raises(Refused) as refused:
        async with connected(edge.port, f"/{where}/refused"):
            pass
    assert (refused.value.status, refused.value.body) == (403, b"not for you")


async def test_a_worker_pumps_between_its_client_and_a_server(edge):
    async with connected(edge.port, "/pump") as client:
        assert await client.receive() == "pumped welcome"
        await client.send("x")
        assert await client.receive() == "pumped plain x"
        await client.close(1000, "done")
        assert await client.receive() == (1000, "done")


@pytest.mark.parametrize("by", ["object", "side"])
async def test_an_object_passes_on_a_socket_that_it_opened(edge, by):
    async with connected(edge.port, f"/{by}") as client:
        await client.send("x")
        assert await client.receive() == "deep x"


def test_own_classes_are_reached_without_a_binding(edge):
    assert ask(edge, "/exports") == [["Consumer", "Default", "Inner", "Side"], [42, 1, 2]]
    (facet,) = json.loads(objects(edge, "list", "Consumer/facets"))
    assert facet["id"].endswith("/inner")
    assert json.loads(objects(edge, "show", "Consumer/facets", facet["id"]))["storage"][0]["value"] == 2


def objects(edge, *arguments):
    command = [*EDGE, "objects", *arguments, "--json", "--data", edge.arguments[-1]]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_an_object_keeps_a_socket_to_a_server_over_its_events(edge):
    url = f"ws://127.0.0.1:{edge.port}/upstream/plain"
    assert ask(edge, "/begin", url) == 0
    eventually(lambda: ask(edge, "/heard") == [True, "welcome", "plain from the alarm"])
    ask(edge, "/say", "later")
    eventually(lambda: ask(edge, "/heard") == [True, "welcome", "plain from the alarm", "plain later"])


@asynccontextmanager
async def held_by_the_caller(edge):
    """A connection on which the first worker has answered a request."""
    async with await trio.open_tcp_stream("127.0.0.1", edge.port) as stream:
        with trio.fail_after(PATIENCE_S):
            await stream.send_all(b"POST /heard HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n")
            answer = b""
            while not answer.endswith(b"]"):
                answer += await stream.receive_some(65536)
            yield WebSocketClient(stream)


async def test_a_connection_that_another_worker_holds_can_be_upgraded(edge):
    async with held_by_the_caller(edge) as client:
        await client.handshake("/upstream/relayed")
        for message in ("one", "x" * 100_000):
            await client.send(message)
            assert await client.receive() == f"relayed {message}"
        await client.close(4001, "over")
        assert await client.receive() == (4001, "over")
        assert await client.receive() is None


async def test_a_refused_upgrade_is_relayed_too(edge):
    async with held_by_the_caller(edge) as client:
        with pytest.raises(Refused) as refused:
            await client.handshake("/upstream/refused")
    assert (refused.value.status, refused.value.body) == (403, b"not for you")
