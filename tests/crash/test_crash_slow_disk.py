"""A disk that takes its time: what must wait for a commit waits for it."""

from __future__ import annotations

import time

import pytest
from crash_server import WORKERS, process_named, read_lines, slow_syncs
from crash_store import read_instances
from edge_process import eventually

SYNC_S = 0.3


@pytest.fixture
def naps(server, tmp_path):
    return server(WORKERS / "naps", WITNESS=tmp_path / "witness.jsonl")


@pytest.mark.needs("ptrace")
def test_step_begins_only_when_the_result_before_it_is_durable(naps, tmp_path):
    edge = naps.start()
    with edge.client() as client:
        client.get("/pid")
        with slow_syncs(process_named(edge, "edge-isolate"), SYNC_S):
            assert client.post("/naps/a?ms=0").status_code == 202
            eventually(
                lambda: any(line["step"] == "after" for line in read_lines(tmp_path / "witness.jsonl")), every_s=0.005
            )
            assert "before-1" in read_instances(naps.data)["a"].recorded


@pytest.mark.needs("ptrace")
@pytest.mark.parametrize("kind", ["naps", "bells"])
def test_request_is_answered_only_when_what_it_did_is_durable(naps, kind):
    edge = naps.start()
    with edge.client() as client:
        client.get("/pid")
        with slow_syncs(process_named(edge, "edge-isolate"), SYNC_S):
            began_s = time.monotonic()
            assert client.post(f"/{kind}/a?ms=60000").status_code == 202
            assert time.monotonic() - began_s >= SYNC_S
