"""apps/chatroom through real WebSocket clients, and its page in a real browser."""

import json
import shutil
from functools import partial

import pytest
import trio
from browser import browser
from edge_process import APPS, PATIENCE_S, EdgeProcess
from websocket_client import Refused, connected

from edge_runtime.supervisor import admin_client


@pytest.fixture
def serve(tmp_path):
    started = []

    def start():
        edge = EdgeProcess("dev", APPS / "chatroom", "--port", 0, "--data", tmp_path / "data", "--no-reload")
        started.append(edge)
        return edge.wait_ready()

    yield start
    for edge in started:
        edge.kill()


@pytest.fixture(scope="module")
def edge(tmp_path_factory):
    """A server for the tests that leave it as it is; each has rooms of its own."""
    data = tmp_path_factory.mktemp("data")
    with EdgeProcess("dev", APPS / "chatroom", "--port", 0, "--data", data, "--no-reload") as edge:
        yield edge.wait_ready()


async def say(client, name, text):
    await client.send(json.dumps({"name": name, "text": text}))


async def heard(client, kind):
    """The next event of a kind, others left out."""
    with trio.fail_after(PATIENCE_S):
        while (event := await client.receive_json())["type"] != kind:
            pass
    return event


async def test_everybody_in_a_room_hears_a_message_and_nobody_elsewhere(edge):
    port = edge.port
    async with connected(port, "/rooms/red") as ann, connected(port, "/rooms/red") as bob:
        async with connected(port, "/rooms/blue") as eve:
            assert await heard(eve, "present") == {"type": "present", "count": 1}
            await say(ann, "Ann", " hello ")
            for client in (ann, bob):
                message = await heard(client, "message")
                assert (message["name"], message["text"]) == ("Ann", "hello")
            await say(eve, "Eve", "alone?")
            assert (await heard(eve, "message"))["text"] == "alone?"
        await bob.close(1000)
        assert await bob.receive() == (1000, "")
        while (await heard(ann, "present"))["count"] != 1:
            pass


async def test_history_outlives_the_server(serve):
    first = serve()
    async with connected(first.port, "/rooms/red") as ann:
        assert (await ann.receive_json()) == {"type": "history", "messages": []}
        for number in range(60):
            await say(ann, "Ann", str(number))
        while (await heard(ann, "message"))["text"] != "59":
            pass
    first.kill()
    async with connected(serve().port, "/rooms/red") as ann:
        history = await ann.receive_json()
        assert [message["text"] for message in history["messages"]] == [str(number) for number in range(10, 60)]


async def test_server_that_goes_down_says_goodbye(serve):
    edge = serve()
    async with connected(edge.port, "/rooms/red") as ann:
        await heard(ann, "present")
        assert await trio.to_thread.run_sync(edge.interrupt) == 0
        assert await ann.receive() == (1012, "Service Restart")


async def test_sockets_end_with_a_deploy_and_the_history_goes_on(tmp_path):
    folder = tmp_path / "chatroom"
    shutil.copytree(APPS / "chatroom", folder)
    deploy = partial(trio.to_thread.run_sync, admin_client.deploy, tmp_path / "data", folder)
    with EdgeProcess("run", "--port", 0, "--data", tmp_path / "data") as edge:
        edge.wait_ready()
        await deploy()
        async with connected(edge.port, "/rooms/red") as ann:
            await heard(ann, "present")
            await say(ann, "Ann", "before")
            await heard(ann, "message")
            with (folder / "src/entry.py").open("a") as entry:
                entry.write("\n# another version\n")
            await deploy()
            with trio.fail_after(PATIENCE_S):
                assert await ann.receive() == (1012, "Service Restart")
        async with connected(edge.port, "/rooms/red") as ann:
            assert [each["text"] for each in (await heard(ann, "history"))["messages"]] == ["before"]


NONSENSE = ["", "{", "[]", '{"name": "Ann"}', '{"name": 1, "text": 2}', '"x"', b"\x00\xff"]


@pytest.mark.parametrize("nonsense", NONSENSE)
async def test_nonsense_is_answered_and_harms_nobody(edge, nonsense):
    async with connected(edge.port, f"/rooms/nonsense-{NONSENSE.index(nonsense)}") as ann:
        await ann.send(nonsense)
        assert await heard(ann, "error") == {"type": "error", "error": "send an object with name and text"}
        await say(ann, "Ann", "x" * 2001)
        assert "2000" in (await heard(ann, "error"))["error"]
        await ann.send("ping")
        assert await ann.receive() == "pong"
        await say(ann, "Ann", "fine")
        assert (await heard(ann, "message"))["text"] == "fine"


async def test_only_rooms_take_sockets_and_rooms_take_nothing_else(edge):
    with edge.client() as client:
        assert client.get("/rooms/red").status_code == 426
        assert client.get("/nowhere").status_code == 404
        assert "WebSocket" in client.get("/").text
    with pytest.raises(Refused, match="404"):
        async with connected(edge.port, "/nowhere"):
            pass


@pytest.mark.needs("browser")
@pytest.mark.slow
async def test_page_shows_two_browsers_what_each_other_says(serve, tmp_path):
    url = serve().url
    lines = "[...document.querySelectorAll('#log li')].map(line => line.textContent)"
    async with browser(tmp_path / "profile") as chromium:
        ann, bob = await chromium.open(f"{url}/#tea"), await chromium.open(f"{url}/#tea")
        await ann.until("document.getElementById('state').textContent === '2 here'")

        async def submit(page, name, text):
            await page.evaluate(
                f"document.getElementById('name').value = {json.dumps(name)};"
                f"document.getElementById('text').value = {json.dumps(text)};"
                "document.querySelector('form button').click()"
            )

        await submit(ann, "Ann", "<b>hello</b> \N{SNOWMAN}")
        await bob.until(f"{lines}.length === 1")
        await submit(bob, "Bob", "hi")
        await ann.until(f"{lines}.length === 2")
        expected = ["Ann<b>hello</b> \N{SNOWMAN}", "Bobhi"]
        assert [await page.evaluate(lines) for page in (ann, bob)] == [expected, expected]
        eve = await chromium.open(f"{url}/#tea")
        await eve.until(f"{lines}.length === 2")
        assert await eve.evaluate(lines) == expected
