"""Durable Objects as scripts use them, in both flavours: exactness, order, errors, alarms, resets, lives and deaths."""

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
from edge_process import PATIENCE_S, eventually, plain_client
from script_workers import FLAVOURS, client_of, served, write_flavours

CLASSES = ("Counter", "Loaded", "Failing", "Ordered", "Timed", "Stored")
IDLE_S = 12
"""Longer than an idle object stays in memory."""


@pytest.fixture(scope="module")
def edge(tmp_path_factory):
    root = tmp_path_factory.mktemp("workers")
    write_flavours(
        root,
        "objects",
        compatibility_date="2026-05-01",
        durable_objects={"bindings": [{"name": name.upper(), "class_name": name} for name in CLASSES]},
        migrations=[{"tag": "v1", "new_sqlite_classes": list(CLASSES)}],
    )
    with served(root, tmp_path_factory.mktemp("data")) as edge:
        yield edge


@pytest.fixture(scope="module")
def left_alone(edge):
    """When the objects "idle" were used last."""
    for flavour in FLAVOURS:
        with client_of(edge, f"objects-{flavour}") as client:
            assert call(client, "LOADED", "idle", "keep", "for later")[:2] == ["fresh", 1]
    return time.monotonic()


@pytest.fixture(params=FLAVOURS)
def client(edge, left_alone, request):
    with client_of(edge, f"objects-{request.param}") as client:
        yield client


def call(client, namespace, name, method, *args):
    query = {f"a{number}": json.dumps(arg) for number, arg in enumerate(args)}
    answer = client.get(f"/{namespace}/{name}/{method}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("method", ["add", "add_blocked"])
def test_increments_of_many_clients_at_once_are_all_counted(client, method):
    def increment(_):
        return call(client, "COUNTER", method, method)

    with ThreadPoolExecutor(16) as clients:
        counts = list(clients.map(increment, range(200)))
    assert sorted(counts) == list(range(1, 201))
    assert call(client, "COUNTER", method, "count") == 200


def test_transactions_are_whole_or_nothing(client):
    def transact(number):
        answer = client.get("/COUNTER/transacted/add_in_transaction", params={"fail": json.dumps(number % 4 == 0)})
        return answer.status_code

    with ThreadPoolExecutor(8) as clients:
        statuses = list(clients.map(transact, range(40)))
    assert statuses == [500 if number % 4 == 0 else 200 for number in range(40)]
    assert call(client, "COUNTER", "transacted", "count") == 30


def test_calls_on_one_stub_arrive_in_order(client):
    answers, order = client.get("/ordered").json()
    assert answers == order == list(range(30))


def test_events_wait_for_what_the_constructor_loads(client):
    with ThreadPoolExecutor(8) as clients:
        seen = list(clients.map(lambda _: call(client, "LOADED", "together", "seen"), range(8)))
    assert {tuple(found[:2]) for found in seen} == {("fresh", 1)}


def test_abort_drops_what_is_not_written_and_the_next_stub_finds_a_new_object(client):
    before, *errors, after = client.get("/broken").json()
    assert before[:2] == ["fresh", 1]
    assert errors == ["given up", "given up"]
    assert after[:2] == ["kept at the abort", 2]


def test_errors_keep_their_class_where_cloudflare_keeps_it(client):
    value, type_, key, other, missing, returned, tuple_, alarm, short, foreign, plain, kinds, fetched = client.get(
        "/errors"
    ).json()
    assert value == ["ValueError", "a value error", True]
    assert type_ == ["TypeError", "a type error", True]
    assert "a key error" in key[1]
    assert "a other error" in other[1]
    assert missing[:2] == ["TypeError", "Method nothing does not exist"]
    assert returned[0] == tuple_[0] == "TypeError"
    assert alarm[0] == "TypeError"
    assert short[:2] == ["TypeError", "Invalid Durable Object ID: must be 64 hex digits"]
    assert foreign[:2] == ["TypeError", "Durable Object ID is not valid for this namespace."]
    assert plain == [1, "a", [None], {"k": 1.5}, {"option": True}]
    assert kinds == ["memoryview", "JsDict", "list", "set", "datetime", "int"]
    assert fetched == [201, ["POST", "/path", "body"]]


def test_ids(client):
    assert client.get("/ids").json() == ["n", 64, None, True, False, True, None]


def test_storage_lists_by_every_option(client):
    found = call(client, "STORED", "one", "lists")
    assert found == {
        "get": {"k0": 0, "k1": 1},
        "prefix": [[f"k{number}", number] for number in range(6)],
        "range": ["k1", "k2"],
        "after": ["k2", "k3"],
        "reverse": ["é", "k5"],
        "all": ["deep", *(f"k{number}" for number in range(6)), "é"],
        "deep": 1,
        "delete": [True, False, 2],
        "left": 5,
        "errors": [
            "List limit must be positive.",
            "list() cannot be called with both start and startAfter values.",
            found["errors"][2],
            found["errors"][3],
        ],
        "kept out": None,
        "empty": 0,
    }
    assert found["errors"][2].startswith("TypeError")
    assert found["errors"][3] == "ValueError: Values cannot be larger than 2000000 bytes"[: len(found["errors"][3])]


def test_alarms_ring_once_are_retried_and_cancelled(client):
    for name, kind in {"number": "number", "date": "date"}.items():
        due_ms = call(client, "TIMED", name, "plan", 0.1, kind)
        assert abs(due_ms - (time.time() + 0.1) * 1000) < PATIENCE_S * 1000
    assert call(client, "TIMED", "fails", "plan", 0, "fails") > 0
    # In one event, which no alarm interrupts however long it takes.
    assert call(client, "TIMED", "cancelled", "plan_and_cancel", 0.3) == [True, None]
    for name in ("number", "date"):
        rung = eventually(lambda name=name: call(client, "TIMED", name, "rung"))
        assert rung == [[0, False, None]]
    retried = eventually(lambda: len(rung := call(client, "TIMED", "fails", "rung")) == 2 and rung)
    assert retried == [[0, False, None], [1, True, None]]
    assert call(client, "TIMED", "cancelled", "rung") == []


def client_of_same(client):
    return plain_client(str(client.base_url), headers={"host": client.headers["host"]})


def test_idle_object_leaves_memory_and_comes_back_with_its_state(edge, left_alone, client):
    for _ in range(5):  # tries: on a busy machine it may leave later, and each look keeps it for longer
        time.sleep(max(0.0, left_alone + IDLE_S - time.monotonic()))
        loaded, constructed, _ = call(client, "LOADED", "idle", "seen")
        if constructed == 2:
            break
        left_alone = time.monotonic()
    assert (loaded, constructed) == ("for later", 2)


def test_objects_live_on_when_their_process_is_killed(client):
    name = client.headers["host"]
    *_, pid = call(client, "LOADED", name, "keep", "through the crash")
    count = call(client, "COUNTER", "crashed", "add")
    call(client, "TIMED", "crashed", "plan", 1, "number")
    os.kill(pid, signal.SIGKILL)

    def seen():
        try:
            with client_of_same(client) as fresh:
                answer = fresh.get(f"/LOADED/{name}/seen")
        except httpx2.HTTPError:
            return None  # it went to the process that was dying
        return answer.status_code == 200 and answer.json()

    loaded, times, new_pid = eventually(seen)
    assert (loaded, times) == ("through the crash", 1)
    assert new_pid != pid
    with client_of_same(client) as fresh:
        assert call(fresh, "COUNTER", "crashed", "add") == count + 1
        assert eventually(lambda: call(fresh, "TIMED", "crashed", "rung")) == [[0, False, None]]
