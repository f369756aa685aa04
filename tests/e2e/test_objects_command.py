"""`edge objects` beside a running server and on a data directory that nobody serves."""

import json
import subprocess

import pytest
from edge_process import APPS, EDGE, EdgeProcess, edge_here, eventually

from edge_runtime.actors.ids import IdFactory


@pytest.fixture
def counter(tmp_path):
    edge = EdgeProcess("dev", APPS / "counter", "--port", 0, "--data", tmp_path / "data", "--no-reload").wait_ready()
    yield edge
    edge.kill()


def objects(tmp_path, *arguments, code=0):
    if not code:
        return edge_here("objects", *arguments, "--data", tmp_path / "data")
    command = [*EDGE, "objects", *arguments, "--data", str(tmp_path / "data")]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert ran.returncode == code, ran.stderr
    return ran.stderr


def test_objects_are_listed_and_shown_while_they_live_and_after(counter, tmp_path):
    with counter.client() as client:
        for name in ("ann", "bob", "ann"):
            assert client.post(f"/{name}").status_code == 200
        assert client.post("/bob/reset?after_s=3600").status_code == 202

    def listed():
        with counter.client() as client:
            # On a slow machine they would leave memory before they are looked for.
            for name in ("ann", "bob"):
                assert client.get(f"/{name}").status_code == 200
        rows = json.loads(objects(tmp_path, "list", "Counter", "--json"))
        return {row["name"]: (row["keys"], row["live"], row["alarm"] is None) for row in rows}

    eventually(
        lambda: listed() == {"ann": (1, True, True), "bob": (1, True, False)},
    )
    shown = json.loads(objects(tmp_path, "show", "Counter", "ann", "--worker", "counter", "--json"))
    assert shown["storage"] == [{"key": "value", "bytes": shown["bytes"], "value": 2}]
    assert shown["id"] == IdFactory("counter-Counter").from_name("ann").toString()
    again = json.loads(objects(tmp_path, "show", "Counter", shown["id"], "--json"))
    assert {**again, "live": None} == {**shown, "live": None}
    counter.kill()
    assert not any(row["live"] for row in json.loads(objects(tmp_path, "list", "Counter", "--json")))
    text = objects(tmp_path, "show", "Counter", "bob")
    assert "Live:    no" in text
    assert "value" in text


def test_idle_objects_are_shown_as_not_live(counter, tmp_path):
    with counter.client() as client:
        assert client.post("/ann").status_code == 200

    def evicted():
        return not json.loads(objects(tmp_path, "show", "Counter", "ann", "--json"))["live"]

    eventually(evicted, every_s=1)


def test_what_is_not_there_is_said(counter, tmp_path):
    with counter.client() as client:
        assert client.post("/ann").status_code == 200
    assert "no Durable Object class Missing" in objects(tmp_path, "list", "Missing", code=1)
    assert "classes with objects: Counter" in objects(tmp_path, "list", "Missing", code=1)
    assert "no object 'nobody' of class Counter" in objects(tmp_path, "show", "Counter", "nobody", code=1)
