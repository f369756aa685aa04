"""apps/order_saga and apps/batch_files through real HTTP."""

import json

import pytest
from edge_process import APPS, EdgeProcess, eventually
from outside_services import OutsideHandler, OutsideServer


class Outside(OutsideServer):
    """The outside services: payments by POST, files by GET; what is asked for is kept in `asked`."""

    def __init__(self):
        self.asked = []
        self.refused = ""
        self.busy_once = set()
        super().__init__(Answers)


class Answers(OutsideHandler):
    server: Outside

    def do_GET(self):
        name = self.path.strip("/")
        self.server.asked.append(name)
        if name in self.server.busy_once:
            self.server.busy_once.discard(name)
            self.reply(503, b"busy")
        elif name.startswith("missing"):
            self.reply(404, b"no such file")
        else:
            self.reply(200, b"word " * len(name))

    def do_POST(self):
        self.received()
        what = self.path.strip("/")
        self.server.asked.append(what)
        if what == self.server.refused:
            self.reply(422, b"refused")
        else:
            self.reply(200, json.dumps({"receipt": "r1", "parcel": "p1"}).encode())


@pytest.fixture
def outside():
    with Outside() as server:
        yield server


@pytest.fixture
def client(tmp_path, outside, request):
    app, variable = request.param
    options = ("--port", 0, "--data", tmp_path / "data", "--var", f"{variable}:{outside.url}")
    edge = EdgeProcess("dev", APPS / app, *options)
    try:
        with edge.wait_ready().client() as opened:
            yield opened
    finally:
        edge.kill()


saga = pytest.mark.parametrize("client", [("order_saga", "PAYMENTS_URL")], indirect=True)
batch = pytest.mark.parametrize("client", [("batch_files", "FILES_URL")], indirect=True)
ORDER = {"id": "o1", "item": "lamp", "count": 2, "amount": 5000}


def order_becomes(client, status):
    return eventually(lambda: (shown := client.get("/orders/o1").json())["status"] == status and shown)


@saga
def test_order_is_shipped_once_a_person_approves(client, outside):
    assert client.post("/stock/lamp", json={"count": 5}).json() == {"free": 5}
    assert client.post("/orders", json=ORDER).status_code == 202
    assert client.post("/orders", json=ORDER).status_code == 409
    order_becomes(client, "waiting")
    assert client.post("/orders/o1/approval", json={"approved": True}).status_code == 202
    assert order_becomes(client, "complete")["output"] == {"receipt": "r1", "parcel": "p1"}
    assert outside.asked == ["notices", "charges", "shipments"]
    assert client.post("/stock/lamp", json={"count": 0}).json() == {"free": 3}


@saga
def test_order_that_cannot_be_shipped_is_refunded_and_put_back(client, outside):
    outside.refused = "shipments"
    client.post("/stock/lamp", json={"count": 5})
    client.post("/orders", json={**ORDER, "amount": 10})
    assert "refused" in order_becomes(client, "errored")["error"]["message"]
    assert outside.asked == ["charges", "shipments", "refunds"]
    assert client.post("/stock/lamp", json={"count": 0}).json() == {"free": 5}


@saga
def test_wrong_orders_are_refused(client, outside):
    assert client.post("/orders", json={"id": "o1"}).status_code == 400
    assert client.get("/orders/unknown").status_code == 404
    assert client.get("/").status_code == 404


@batch
def test_batch_counts_every_file_and_names_those_that_failed(client, outside):
    outside.busy_once.add("ccc")
    files = ["a", "bb", "ccc", "missing", "eeeee"]
    assert client.post("/batches", json={"id": "b1", "files": files}).status_code == 202
    shown = eventually(lambda: (found := client.get("/batches/b1").json())["status"] == "complete" and found)
    assert shown["output"]["words"] == {"a": 1, "bb": 2, "ccc": 3, "eeeee": 5}
    assert list(shown["output"]["failed"]) == ["missing"]
    assert shown["progress"] == "5/5"
    assert sorted(outside.asked) == sorted([*files, "ccc"])


@batch
def test_wrong_batches_are_refused(client, outside):
    assert client.post("/batches", json={"files": []}).status_code == 400
    assert client.post("/batches", json={"id": "b1", "files": []}).status_code == 400
    assert client.get("/batches/unknown").status_code == 404
