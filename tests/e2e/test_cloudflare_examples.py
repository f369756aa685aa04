"""Cloudflare's own Python examples, unmodified, from a checkout of cloudflare/python-workers-examples.

EDGE_EXAMPLES names the checkout; the expectations are those of the repository's own tests.
"""

import os
from pathlib import Path

import pytest
from browser import browser
from edge_process import EdgeProcess, eventually
from websocket_client import connected

pytestmark = [pytest.mark.needs("examples"), pytest.mark.slow, pytest.mark.timeout(300)]
TEXT = "text/plain;charset=UTF-8"


@pytest.fixture
def serve(tmp_path):
    started = []

    def start(example):
        folder = Path(os.environ["EDGE_EXAMPLES"]) / example
        edge = EdgeProcess("dev", folder, "--port", 0, "--data", tmp_path / "data", "--no-reload")
        started.append(edge)
        return edge.wait_ready(240)

    yield start
    for edge in started:
        edge.kill()


def get(client, path, status=200):
    answer = client.get(path)
    assert answer.status_code == status, answer.text
    return answer


def test_01_hello(serve):
    with serve("01-hello").client() as client:
        answer = get(client, "/")
        assert (answer.text, answer.headers["content-type"]) == ("Hello world!", TEXT)


def test_02_binding(serve):
    with serve("02-binding").client() as client:
        answer = get(client, "/")
        assert (answer.text, answer.headers["content-type"]) == ("baz", TEXT)


def test_03_fastapi(serve):
    with serve("03-fastapi").client() as client:
        first = get(client, "/")
        assert first.headers["content-type"] == "application/json"
        assert first.text.startswith('{"message":"This is an example of FastAPI with Jinja2')
        assert get(client, "/hi/Dominik").text == '{"message":"Hello, Dominik!"}'
        assert "My env var" in get(client, "/env").json()["message"]


def test_06_assets(serve):
    types = {
        "": "text/html; charset=utf-8",
        "image.svg": "image/svg+xml",
        "style.css": "text/css; charset=utf-8",
        "script.js": "text/javascript; charset=utf-8",
        "favicon.ico": "image/vnd.microsoft.icon",
        "painting.jpg": "image/jpeg",
    }
    with serve("06-assets").client() as client:
        assert {path: get(client, f"/{path}").headers["content-type"] for path in types} == types


def test_07_durable_objects(serve):
    with serve("07-durable-objects").client() as client:
        assert get(client, "/room-1/show").text == "No messages"
        assert get(client, "/room-1/add/hi").text == "Message sent"
        assert get(client, "/room-1/show").text == "hi"
        assert get(client, "/room-2/show").text == "No messages"


def test_08_cron(serve):
    with serve("08-cron").client() as client:
        answer = get(client, "/")
        assert "Hello from Cron Worker" in answer.text
        assert answer.headers["content-type"] == TEXT


def start_workflow(client):
    text = get(client, "/").text
    assert "/start" in text
    assert "/status" in text
    text = get(client, "/start").text
    assert "workflow with ID:" in text
    return text.rpartition("ID: ")[2].strip()


def completed(client, workflow_id):
    def status():
        found = get(client, f"/status/{workflow_id}").json()
        assert found["status"] in ("queued", "running", "waiting", "complete"), found
        return found["status"] == "complete"

    return eventually(status, timeout_s=120)


def test_10_workflows(serve):
    edge = serve("10-workflows")
    with edge.client() as client:
        workflow_id = start_workflow(client)
        completed(client, workflow_id)
    edge.wait_for("I awaited the first two")
    assert [edge.output.count(text) for text in ("executing dep1", "executing dep2", "I awaited the first two")] == [
        1,
        1,
        1,
    ]


def test_10_workflows_completes_after_a_kill_in_the_middle(serve):
    edge = serve("10-workflows")
    with edge.client() as client:
        workflow_id = start_workflow(client)
        edge.wait_for("executing dep")
    edge.kill()
    edge = serve("10-workflows")
    with edge.client() as client:
        completed(client, workflow_id)


async def test_15_chatroom(serve):
    edge = serve("15-chatroom")
    with edge.client() as client:
        assert "<title>Chatroom</title>" in get(client, "/").text
        assert get(client, "/room/x", 400).text == "Expected WebSocket upgrade"
    async with connected(edge.port, "/room/general") as one:
        assert (await one.receive_json())["text"] == "Connected to chatroom"
        await one.send('{"username": "Ann", "text": "hello"}')
        assert (await one.receive_json())["text"] == "hello"
        async with connected(edge.port, "/room/general") as two, connected(edge.port, "/room/other") as other:
            history = await two.receive_json()
            assert [(message["username"], message["text"]) for message in history["messages"]] == [("Ann", "hello")]
            assert (await two.receive_json())["type"] == "system"
            await two.send('{"username": "Bob", "text": "hi"}')
            for client in (one, two):
                message = await client.receive_json()
                assert (message["type"], message["username"], message["text"]) == ("message", "Bob", "hi")
            await two.send("nonsense")
            await two.close(1000, "bye")
            assert await two.receive() == (1000, "bye")
            assert (await other.receive_json())["type"] == "system"
            await other.send('{"text": "anyone?"}')
            assert (await other.receive_json())["username"] == "Anonymous"
        edge.wait_for("Client disconnected")
        edge.wait_for("Error handling message")
        await one.send('{"username": "Ann", "text": "still here"}')
        assert (await one.receive_json())["text"] == "still here"


@pytest.mark.needs("browser")
async def test_15_chatroom_in_two_browser_tabs(serve, tmp_path):
    edge = serve("15-chatroom")
    texts = "[...document.querySelectorAll('.message-text')].map(element => element.textContent).join()"
    async with browser(tmp_path / "profile") as chromium:
        one, two = await chromium.open(f"{edge.url}/#tea"), await chromium.open(f"{edge.url}/#tea")
        for page in (one, two):
            await page.until("document.getElementById('status').textContent.includes('Connected')")
        for page, text in ((one, "hello"), (two, "hi")):
            await page.evaluate(
                f"document.getElementById('messageInput').value = '{text}';"
                "document.getElementById('sendButton').click()"
            )
            for other in (one, two):
                await other.until(f"{texts}.endsWith('{text}')")
        assert [await page.evaluate(texts) for page in (one, two)] == ["hello,hi", "hello,hi"]
