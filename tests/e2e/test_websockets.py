"""WebSocketPair in a worker, through real connections, in both flavours."""

import pytest
from edge_process import EdgeProcess
from websocket_client import Refused, connected

SCRIPT = """
from js import WebSocketPair
from pyodide.ffi import create_proxy
from workers import Response, WorkerEntrypoint

FLAVOUR = "{flavour}"
if FLAVOUR == "trio":
    from trio import sleep
else:
    from asyncio import sleep


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        client, server = WebSocketPair.new()
        how = request.url.rpartition("/")[2]
        if how == "plain":
            return Response("no socket here")
        server.accept()
        if how == "used":
            return Response(None, status=101, web_socket=server)

        async def slow(event):
            await sleep(0.01)
            server.send("slow " + event.data)

        def on_message(event):
            data = event.data if isinstance(event.data, str) else event.data.to_bytes()
            if data == "fail":
                raise KeyError("told to")
            if data == "bye":
                server.close(4001, "as you wish")
            elif data == "slow":
                return slow(event)
            else:
                server.send(data * 2)

        def on_close(event):
            print("closed", event.code, event.reason, event.wasClean, server.readyState)

        server.addEventListener("message", create_proxy(on_message))
        server.onclose = on_close
        server.send("hello")
        return Response(None, status=101, web_socket=client, headers={"x-how": how})
"""


@pytest.fixture(scope="module", params=["trio", "asyncio"])
def edge(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("worker")
    (folder / "entry.py").write_text(SCRIPT.replace("{flavour}", request.param))
    (folder / "wrangler.toml").write_text(
        'name = "sockets"\nmain = "entry.py"\ncompatibility_date = "2026-05-01"\n'
        'compatibility_flags = ["python_workers", "no_websocket_standard_binary_type"]\n'
        f'[edge]\nflavour = "{request.param}"\n'
    )
    with EdgeProcess("dev", folder, "--port", 0, "--data", tmp_path_factory.mktemp("data"), "--no-reload") as started:
        yield started.wait_ready()


async def test_listeners_hear_a_client_and_answer_it(edge):
    async with connected(edge.port, "/chat") as client:
        assert client.headers["x-how"] == "chat"
        assert await client.receive() == "hello"
        for said, heard in (("ab", "abab"), (b"\x00\xff", b"\x00\xff\x00\xff"), ("slow", "slow slow")):
            await client.send(said)
            assert await client.receive() == heard
        await client.send("fail")
        await client.send("x" * 1_000_000)
        assert await client.receive() == "x" * 2_000_000
        await client.close(1000, "enough")
        assert await client.receive() == (1000, "enough")
    edge.wait_for("closed 1000 enough True 3")
    edge.wait_for("KeyError")


async def test_server_closes_with_its_own_code(edge):
    async with connected(edge.port, "/chat") as client:
        assert await client.receive() == "hello"
        await client.send("bye")
        assert await client.receive() == (4001, "as you wish")
        assert await client.receive() is None
    edge.wait_for("closed 4001 as you wish True 3")


async def test_client_that_vanishes_is_a_close_with_1006(edge):
    async with connected(edge.port, "/chat") as client:
        assert await client.receive() == "hello"
    edge.wait_for("closed 1006 WebSocket disconnected without sending Close frame. False 3")


async def test_what_cannot_be_upgraded_is_said(edge):
    with edge.client() as client:
        answer = client.get("/chat")
        assert answer.status_code == 500
        assert 'did not contain the header "Upgrade: websocket"' in answer.text
    with pytest.raises(Refused, match="200: no socket here"):
        async with connected(edge.port, "/plain"):
            pass
    with pytest.raises(Refused, match="Can't return WebSocket in a Response after calling"):
        async with connected(edge.port, "/used"):
            pass
