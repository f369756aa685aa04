"""Sleeps and alarms across a kill: those that became due meanwhile fire on the restart, none is early."""

from __future__ import annotations

import time

import pytest
from crash_server import WORKERS, read_lines
from crash_store import assert_sound, read_instances
from edge_process import eventually

NAP_MS = 1500
BOTH = pytest.mark.parametrize("due", ["while down", "after the restart"])


@pytest.fixture
def naps(server, tmp_path):
    return server(WORKERS / "naps", WITNESS=tmp_path / "witness.jsonl")


@pytest.fixture
def witness(tmp_path):
    return lambda: read_lines(tmp_path / "witness.jsonl")


def wait_until_ms(at_ms):
    time.sleep(max(0, at_ms / 1000 - time.time()))


@pytest.mark.slow
@BOTH
def test_sleep_wakes_after_a_kill_and_is_never_early(naps, witness, due):
    naps.start()
    ids = ["a", "b", "c"]
    with naps.edge.client() as client:
        for id in ids:
            assert client.post(f"/naps/{id}?ms={NAP_MS}").status_code == 202
    asleep = eventually(lambda: (found := read_instances(naps.data)) and all_have(found, "nap-1") and found)
    naps.kill()
    due_ms = {id: asleep[id].started("nap-1").due_ms for id in ids}
    if due == "while down":
        wait_until_ms(max(due_ms.values()) + 200)
    naps.start()
    found = eventually(lambda: all_complete(found := read_instances(naps.data)) and found)
    for id in ids:
        assert found[id].started("nap-1").due_ms == due_ms[id]
        steps = [line["step"] for line in witness() if line["id"] == id]
        assert steps == ["before", "after"]
    assert all(line["at_ms"] >= due_ms[line["id"]] for line in witness() if line["step"] == "after")
    naps.kill()
    assert_sound(naps.data)


def all_have(found, step):
    return all(instance.has(step) for instance in found.values())


def all_complete(found):
    return all(instance.status == "complete" for instance in found.values())


@pytest.mark.slow
@BOTH
def test_alarm_fires_after_a_kill_and_is_never_early(naps, witness, due):
    naps.start()
    with naps.edge.client() as client:
        due_ms = client.post(f"/bells/a?ms={NAP_MS}").json()
        naps.kill()  # at once: the alarm was acknowledged
    if due == "while down":
        wait_until_ms(due_ms + 200)
    naps.start()
    with naps.edge.client() as client:
        eventually(lambda: witness())
        fired = eventually(lambda: client.get("/bells/a").json())
    assert len(fired) == len(witness()) == 1
    assert witness()[0]["at_ms"] >= int(due_ms)


@pytest.mark.slow
def test_alarm_cut_short_by_a_kill_fires_again(naps, witness, tmp_path):
    naps.start()
    with naps.edge.client() as client:
        client.post("/bells/a?ms=0&held=1")
        eventually(lambda: witness())
        naps.kill()
    (tmp_path / "let go").touch()
    naps.start()
    with naps.edge.client() as client:
        fired = eventually(lambda: client.get("/bells/a").json())
    assert len(fired) == 1
    assert len(witness()) == 2


@pytest.mark.slow
def test_instance_whose_creation_was_acknowledged_runs_after_a_kill_at_once(naps, witness):
    ids = []
    for life in range(4):
        naps.start()
        with naps.edge.client() as client:
            family = naps.edge.family()
            for number in range(life + 1):
                ids.append(f"{life}-{number}")
                assert client.post(f"/naps/{ids[-1]}?ms=1").status_code == 202
            naps.kill(family)
    naps.start()
    found = eventually(lambda: all_complete(found := read_instances(naps.data)) and found)
    assert sorted(found) == ids
    assert {line["id"] for line in witness() if line["step"] == "after"} == set(ids)
    naps.kill()
    assert_sound(naps.data)
