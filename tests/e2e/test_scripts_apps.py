"""ASGI and WSGI apps, plain functions and old-style handlers as workers, in both flavours."""

import pytest
from script_workers import client_of, edge_command, served, write_flavours

KV = {"kv_namespaces": [{"binding": "KV"}]}


@pytest.fixture(scope="module")
def edge(tmp_path_factory, data):
    root = tmp_path_factory.mktemp("workers")
    write_flavours(root, "apps", **KV)
    write_flavours(root, "sync")
    write_flavours(root, "global_handlers", compatibility_date="2024-11-01", triggers={"crons": ["0 0 1 1 *"]}, **KV)
    with served(root, data) as edge:
        yield edge


@pytest.fixture
def client(edge, flavour):
    with client_of(edge, f"apps-{flavour}") as client:
        yield client


def test_asgi_app_gets_the_request_and_streams_its_answer(client, flavour):
    answer = client.post("/asgi/pl%C3%A4ce?q=1", content=b"sent", headers={"x-sent": "yes"})
    assert (answer.status_code, answer.headers.get_list("set-cookie")) == (207, ["a=1", "b=2"])
    (told,) = answer.json()
    assert told == {
        "method": "POST",
        "path": "/asgi/pläce",
        "raw_path": "/asgi/pl%C3%A4ce",
        "query": "q=1",
        "env": flavour,
        "state": {"started": True},
        "body": "sent",
        "header": "yes",
    }


def test_asgi_app_that_fails_or_says_nothing_is_an_error(edge, client):
    for path, told in {"fail": "raised in the ASGI app", "silent": "did not generate a response"}.items():
        answer = client.get(f"/asgi/{path}")
        assert (answer.status_code, answer.text) == (500, "error code: 1101")
        edge.wait_for(told)
    edge.wait_for("asgi app shut down")


def test_wsgi_app_blocks_on_bindings_and_answers(edge, client):
    answer = client.post("/wsgi/%C3%A4?q=1", content=b"sent", headers={"x-sent": "yes"})
    assert (answer.status_code, answer.headers["x-app"]) == (203, "wsgi")
    assert answer.json() == {
        "path": "/wsgi/ä".encode().decode("latin-1"),
        "query": "q=1",
        "length": "4",
        "header": "yes",
        "body": "sent",
        "kept": "POST",
    }
    assert client.get("/wsgi/stream").text == "0;1;2;"
    assert client.get("/wsgi/fail").status_code == 500
    edge.wait_for("ZeroDivisionError: raised in the WSGI app")


def test_plain_functions_answer(edge, flavour):
    with client_of(edge, f"sync-{flavour}") as client:
        answer = client.put("/")
        assert (answer.text, answer.headers["x-same"]) == (f"PUT {flavour}", "True")


def test_global_handlers_serve_with_an_old_date(edge, flavour, data):
    worker = f"global_handlers-{flavour}"
    with client_of(edge, worker) as client:
        assert client.post("/x", content=b"body").text == f"global {flavour} body"
        edge_command("workers", "run-scheduled", worker, "0 0 1 1 *", "--data", data)
