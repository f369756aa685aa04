"""`[edge] http1`: two workers of one server, each served by another implementation of HTTP/1."""

import json
import socket
from contextlib import closing

import pytest
from edge_process import PATIENCE_S, EdgeProcess

SCRIPT = """
from workers import Response, WorkerEntrypoint

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        return Response(request.url, headers={"connection": "x-hop"})
"""


@pytest.fixture(scope="module")
def edge(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workers")
    for name, settings in {"own": {}, "hypercorn": {"http1": "hypercorn"}}.items():
        (folder / name).mkdir()
        (folder / name / "entry.py").write_text(SCRIPT)
        config = {"name": name, "main": "entry.py", "compatibility_date": "2026-05-01", "edge": settings}
        (folder / name / "wrangler.json").write_text(json.dumps({**config, "routes": [f"/{name}/*"]}))
    with EdgeProcess("run", folder, "--port", 0, "--data", tmp_path_factory.mktemp("data")) as edge:
        yield edge.wait_ready()


def ask(edge, target):
    with closing(socket.create_connection(("127.0.0.1", edge.port), timeout=PATIENCE_S)) as client:
        client.sendall(b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        data = b""
        while piece := client.recv(65536):
            data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    return head.lower(), body


def test_both_serve_their_worker(edge):
    for name in (b"own", b"hypercorn"):
        head, body = ask(edge, b"/" + name + b"/a?b")
        assert head.startswith(b"http/1.1 200")
        assert body == b"http://localhost/" + name + b"/a?b"


def test_default_takes_raw_utf_8_and_keeps_the_connection_headers_to_itself(edge):
    head, body = ask(edge, "/own/é".encode())
    assert body == b"http://localhost/own/%C3%A9"
    assert b"x-hop" not in head


def test_setting_brings_hypercorn_back(edge):
    head, body = ask(edge, "/hypercorn/é".encode())
    assert head.startswith(b"http/1.1 400")
    assert body == b""
    assert b"x-hop" not in ask(edge, b"/hypercorn/")[0]
