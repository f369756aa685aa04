"""SIGKILL while many workflow instances are in flight: all complete by themselves, and nothing recorded runs again.

Small here. The whole of it: EDGE_KILL_RUNS=200 EDGE_KILL_ROUNDS=20 pytest tests/crash/test_crash_workflows.py
"""

from __future__ import annotations

import json
import os
import shutil
import time
from random import Random

import pytest
from crash_server import WORKERS
from crash_store import assert_sound, read, read_instances
from crash_witness import Witnessed
from edge_process import eventually

from edge_runtime.workflows.core.journal import StepSucceeded
from edge_runtime.workflows.script import payloads
from edge_runtime.workflows.stored import blocks, instances
from edge_runtime.workflows.stored.instances import Status

RUNS = int(os.environ.get("EDGE_KILL_RUNS", "24"))
ROUNDS = int(os.environ.get("EDGE_KILL_ROUNDS", "2"))
STEPS = 10
WORK_MS = 30
WITHIN_S = 120
WORKER = "runs"
SEED = int(os.environ.get("EDGE_KILL_SEED", "4"))


@pytest.fixture
def runs(server, tmp_path):
    return server(WORKERS / "runs", WITNESS=tmp_path / "witness.jsonl")


def complete(server, workflow, count):
    """Whether so many instances are there, and all are complete."""

    def counted(snapshot):
        return [sum(1 for _ in instances.ids(snapshot, WORKER, workflow, status)) for status in (None, Status.COMPLETE)]

    return read(server.data, counted) == [count, count]


def kill_under_way(server, workflow, ids, wanted, random):
    """Kill once the instances have recorded so many steps together, and a little later."""
    family = server.edge.family()
    eventually(lambda: steps_recorded(server, workflow, ids) >= wanted, WITHIN_S, every_s=0.01)
    time.sleep(random.uniform(0, WORK_MS / 1000))
    server.kill(family)


def steps_recorded(server, workflow, ids):
    def counted(snapshot):
        entries = (entry for id in ids for entry in blocks.load(snapshot, WORKER, workflow, id, 0).entries)
        return sum(isinstance(entry, StepSucceeded) for entry in entries)

    return read(server.data, counted)


def outputs(server, workflow):
    """What the instances of a workflow returned."""

    def load(snapshot):
        found = instances.scan(snapshot, WORKER, workflow)
        return {id: payloads.decode_plain(record.output) for id, record in found if record.output is not None}

    return read(server.data, load)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_runs_in_flight_complete_by_themselves_and_no_recorded_step_runs_again(runs, tmp_path):
    random = Random(SEED)
    witnessed, let_go = Witnessed(tmp_path / "witness.jsonl"), tmp_path / "let go"
    for round in range(ROUNDS):
        let_go.unlink(missing_ok=True)
        runs.start()
        ids = [f"run-{round * RUNS + number}" for number in range(RUNS)]
        with runs.edge.client() as client:
            assert client.post(f"/runs?first={round * RUNS}&count={RUNS}&work_ms={WORK_MS}").status_code == 201
        kill_under_way(runs, "ten-steps", ids, random.randrange(1, RUNS * STEPS * 8 // 10), random)
        found = read_instances(runs.data)
        assert set(ids) <= set(found), "an acknowledged instance is gone"
        assert any(found[id].status != "complete" for id in ids)
        witnessed.killed(found)
        let_go.touch()
        # Nobody asks this server for anything.
        runs.start()
        total = (round + 1) * RUNS
        eventually(lambda total=total: complete(runs, "ten-steps", total), WITHIN_S, every_s=0.1)
        runs.kill()
    found = read_instances(runs.data)
    expected = {f"step {number}-1" for number in range(STEPS)}
    assert all(instance.recorded == expected for instance in found.values())
    counts = witnessed.counts()
    assert set(counts) == {(id, step) for id in found for step in expected}
    # What was cut short runs once more, and not more often.
    assert max(counts.values()) <= 2
    assert_sound(runs.data)
    assert outputs(runs, "ten-steps") == {id: [id, 7 * sum(range(STEPS))] for id in found}


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("isolates", [1, 3], ids=["one isolate", "objects in other isolates"])
def test_transactional_steps_take_effect_once_however_often_the_server_is_killed(server, tmp_path, isolates):
    folder = tmp_path / "worker"
    shutil.copytree(WORKERS / "runs", folder)
    config = json.loads((folder / "wrangler.jsonc").read_text())
    (folder / "wrangler.jsonc").write_text(json.dumps({**config, "edge": {"instances": isolates}}))
    runs = server(folder, WITNESS=tmp_path / "witness.jsonl")
    random = Random(SEED)
    witnessed = Witnessed(tmp_path / "witness.jsonl")
    count = max(4, RUNS // 4)
    ids = [f"payment-{number}" for number in range(count)]
    runs.start()
    with runs.edge.client() as client:
        assert client.post(f"/payments?first=0&count={count}&work_ms=10").status_code == 201
    for round in range(1, ROUNDS + 2):
        kill_under_way(runs, "payment", ids, min(3 * count - 1, round * 3 * count // (ROUNDS + 2)), random)
        witnessed.killed(read_instances(runs.data))
        runs.start()
    eventually(lambda: complete(runs, "payment", count) and complete(runs, "receipt", count), WITHIN_S)
    with runs.edge.client() as client:
        done = client.get("/ledger").json()
    assert done["counts"] == dict.fromkeys(ids, 3)
    assert done["accounts"] == [[5 * count, count]] * 3
    runs.kill()
    witnessed.counts()
    assert_sound(runs.data)
    assert outputs(runs, "receipt") == {f"receipt-of-{id}": [[[1, 2], [2, 3]], "WorkflowTimeoutError"] for id in ids}
