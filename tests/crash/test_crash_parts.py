"""Killing one process of the family: those above replace it, those below go with it, and no run is lost."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
from crash_server import WORKERS, process_named, read_lines, still_running
from crash_store import assert_sound, read_instances
from edge_process import eventually


@pytest.fixture
def naps(server, tmp_path):
    return server(WORKERS / "naps", WITNESS=tmp_path / "witness.jsonl")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["edge-isolate", "edge-template"])
def test_what_is_killed_below_the_server_is_replaced_and_runs_go_on(naps, tmp_path, name):
    edge = naps.start()
    for id in ("a", "b"):
        with edge.client() as client:
            before = client.get("/pid").text
            assert client.post(f"/naps/{id}?ms=2000").status_code == 202
        eventually(lambda id=id: read_instances(naps.data)[id].has("nap-1"))
        os.kill(process_named(edge, name), signal.SIGKILL)
        eventually(lambda before=before: answers_from_another(edge, before))
    eventually(lambda: {found.status for found in read_instances(naps.data).values()} == {"complete"})
    steps = [(line["id"], line["step"]) for line in read_lines(tmp_path / "witness.jsonl")]
    assert sorted(steps) == [("a", "after"), ("a", "before"), ("b", "after"), ("b", "before")]
    assert edge.process.poll() is None
    naps.kill()
    assert_sound(naps.data)


def answers_from_another(edge, before):
    """Clients get answers again, from a process that is not the one before."""
    try:
        with edge.client() as client:
            answer = client.get("/pid")
    except httpx2.HTTPError:
        return False  # this connection went down with the process
    return answer.status_code == 200 and answer.text != before


@pytest.mark.slow
def test_killed_server_leaves_no_orphans_and_its_data_to_the_next(naps, tmp_path):
    edge = naps.start()
    with edge.client() as client:
        assert client.post("/naps/a?ms=500").status_code == 202
    family = edge.family()
    assert len(family) >= 4
    os.kill(edge.process.pid, signal.SIGKILL)
    eventually(lambda: not still_running(family))
    naps.start()
    eventually(lambda: read_instances(naps.data)["a"].status == "complete")
    steps = [line["step"] for line in read_lines(tmp_path / "witness.jsonl")]
    assert sorted(set(steps)) == ["after", "before"]


@pytest.mark.slow
def test_client_of_a_killed_server_sees_its_connection_end_and_no_error_of_its_object(server):
    edge = server(WORKERS / "waits").start()
    with ThreadPoolExecutor(1) as pool, edge.client() as client:
        asked = pool.submit(client.get, "/")
        edge.wait_for("called")
        os.kill(edge.process.pid, signal.SIGKILL)
        with pytest.raises((httpx2.RemoteProtocolError, httpx2.ReadError)):
            asked.result()
