"""Cloudflare's own Python examples, unmodified, from a checkout of cloudflare/python-workers-examples.

EDGE_EXAMPLES names the checkout; the expectations are those of the repository's own tests.
"""

import os
from pathlib import Path

import pytest
from edge_process import EdgeProcess, eventually

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

    return eventually(status, timeout_s=60)


def test_10_workflows(serve):
    edge = serve("10-workflows")
    with edge.client() as client:
        workflow_id = start_workflow(client)
        completed(client, workflow_id)
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
