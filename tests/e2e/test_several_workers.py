"""Several workers behind one port: who gets which request, also on a connection that another worker holds."""

import http.client
import json
import os
import signal
from contextlib import closing

import pytest
from edge_process import PATIENCE_S, EdgeProcess

SCRIPT = """
import os
from workers import Response, WorkerEntrypoint

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        body = await request.text()
        facts = {"worker": self.env.NAME, "pid": os.getpid(), "url": request.url, "body": body}
        return Response.json(facts, headers={"x-worker": self.env.NAME})
"""


@pytest.fixture(scope="module")
def edge(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workers")
    routes = {"shop": ["/shop/*", "shop.example.com/*"], "blog": ["/blog/*"], "rest": []}
    for name, patterns in routes.items():
        (folder / name).mkdir()
        (folder / name / "entry.py").write_text(SCRIPT)
        config = {"name": name, "main": "entry.py", "compatibility_date": "2026-05-01", "vars": {"NAME": name}}
        if patterns:
            config["routes"] = patterns
        (folder / name / "wrangler.json").write_text(json.dumps(config))
    with EdgeProcess("run", folder, "--port", 0, "--data", tmp_path_factory.mktemp("data")) as edge:
        yield edge.wait_ready()


@pytest.fixture
def connection(edge):
    with closing(http.client.HTTPConnection("localhost", edge.port, timeout=PATIENCE_S)) as connection:
        yield connection


def ask(connection, path, body=None):
    connection.request("GET" if body is None else "POST", path, body)
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def test_path_and_host_choose_the_worker(edge):
    with edge.client() as client:
        assert client.get("/shop/1").json()["worker"] == "shop"
        assert client.get("/blog/").json()["worker"] == "blog"
        assert client.get("/elsewhere").json()["worker"] == "rest"
        assert client.get("/x", headers={"host": "shop.example.com"}).json()["worker"] == "shop"
        assert client.get("/x", headers={"host": "blog.localhost"}).json()["worker"] == "blog"


def test_requests_on_one_connection_reach_their_own_workers(edge, connection):
    found = [ask(connection, path)[1] for path in ("/shop/1", "/blog/2?q=%20x", "/shop/3", "/other", "/blog/4")]
    assert [facts["worker"] for facts in found] == ["shop", "blog", "shop", "rest", "blog"]
    assert found[1]["url"] == f"http://localhost:{edge.port}/blog/2?q=%20x"
    assert len({facts["pid"] for facts in found}) == 3


def test_bodies_pass_between_workers_in_both_directions(connection):
    ask(connection, "/shop/1")
    big = "x" * 3_000_000
    status, facts = ask(connection, "/blog/upload", big)
    assert (status, facts["body"]) == (200, big)
    chunked = ask(connection, "/blog/chunks", iter([b"a" * 10, b"b" * 10]))
    assert chunked[1]["body"] == "a" * 10 + "b" * 10


def test_a_dead_worker_is_started_again_for_a_relayed_request(connection):
    ask(connection, "/shop/1")
    first = ask(connection, "/blog/1")[1]["pid"]
    os.kill(first, signal.SIGKILL)
    answers = [ask(connection, "/blog/again") for _ in range(3)]
    assert [status for status, _ in answers] == [200, 200, 200]
    assert {facts["pid"] for _, facts in answers} - {first}
