"""What outlives a request and what ends with it, in both flavours: clients that leave, streams, background work."""

import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from edge_process import eventually
from script_workers import client_of, served, write_flavours


@pytest.fixture(scope="module")
def edge(tmp_path_factory):
    root = tmp_path_factory.mktemp("workers")
    write_flavours(
        root,
        "lives",
        kv_namespaces=[{"binding": "KV"}],
        durable_objects={"bindings": [{"name": "ACTOR", "class_name": "Actor"}]},
        migrations=[{"tag": "v1", "new_sqlite_classes": ["Actor"]}],
    )
    with served(root, tmp_path_factory.mktemp("data")) as edge:
        yield edge


@pytest.fixture
def client(edge, flavour):
    with client_of(edge, f"lives-{flavour}") as client:
        yield client


def printed(edge, flavour, text):
    return eventually(lambda: f"lives-{flavour}: {text}" in edge.lines)


def test_client_that_leaves_cancels_the_handler_but_not_its_background_work(edge, client, flavour):
    with closing(socket.create_connection(("127.0.0.1", edge.port))) as leaving:
        leaving.sendall(b"GET /hang HTTP/1.1\r\nHost: %b\r\n\r\n" % client.headers["host"].encode())
        printed(edge, flavour, "handler hangs")
    printed(edge, flavour, "handler was cancelled")
    eventually(lambda: client.get("/note").text == "kept on")
    edge.wait_for(rf"lives-{flavour} fetch Default.fetch GET /hang canceled")


def test_client_that_leaves_closes_the_generator_of_the_body(edge, client, flavour):
    with client.stream("GET", "/endless") as answer:
        next(answer.iter_raw())
    printed(edge, flavour, "generator was closed")


def test_body_can_be_read_in_background_work_if_it_has_arrived(client):
    client.post("/read_later", content=b"arrived")
    eventually(lambda: client.get("/read").text in ("arrived", "OSError"))


def test_concurrency_of_each_flavours_own_library_works(client, flavour):
    expected = {
        "trio": [0, 1, 2, "failed in the group", None, "thread", "pong", True],
        "asyncio": [0, 1, 2, "failed in the group", None, "thread", "pong", ["pong"], "pong", "slept"],
    }
    found = client.get("/things").json()
    assert sorted(map(str, found)) == sorted(map(str, expected[flavour]))


def test_requests_run_side_by_side_in_one_isolate(edge, flavour):
    def meet(_):
        with client_of(edge, f"lives-{flavour}") as client:
            return client.get("/meet").status_code

    with ThreadPoolExecutor(10) as clients:
        assert list(clients.map(meet, range(10))) == [200] * 10


def test_objects_call_objects(client):
    assert client.get("/chain").json() == [f"chain {depth}" for depth in range(5, -1, -1)]


def test_bodies_stream_through_an_object(client):
    answer = client.post("/through", content=b"sent")
    assert (answer.text, answer.headers["x-read"]) == ("0;1;2;", "sent")


def test_background_work_of_an_object_ends(client):
    assert client.get("/background").text == "at once"
    eventually(lambda: client.get("/stored").json() == "done")
