"""A graph of steps with waits, killed at random moments: it completes by itself, no recorded step runs again, and no
wait that is recorded is cut short or begun anew. Cloudflare's own example, and a script with waits of each kind.

EDGE_KILL_SEED chooses the moments and EDGE_KILL_ROUNDS how many there are.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
from crash_server import WORKERS, CrashServer
from crash_store import Instance, assert_sound, read, read_instances
from crash_witness import Witnessed
from edge_process import eventually

from edge_runtime.workflows.core.journal import AttemptStarted, StepFailed, StepStarted, StepSucceeded
from edge_runtime.workflows.script import payloads
from edge_runtime.workflows.stored import instances

KILLS = 1 + int(os.environ.get("EDGE_KILL_ROUNDS", "2"))
SEED = int(os.environ.get("EDGE_KILL_SEED", "4"))
WITHIN_S = 180


@contextmanager
def told(moments_s: list[float]) -> Iterator[None]:
    """With a failure: what makes it happen again."""
    try:
        yield
    except BaseException as error:
        shown = ", ".join(f"{moment_s:.3f}" for moment_s in moments_s)
        error.add_note(f"EDGE_KILL_SEED={SEED}: killed {shown} s after the starts")
        raise


def killed_after(server: CrashServer, moment_s: float) -> dict[str, Instance]:
    """Kill the server so long after its start; what it leaves."""
    time.sleep(moment_s)
    server.kill()
    return read_instances(server.data)


def all_complete(server: CrashServer) -> bool:
    return all(instance.status == "complete" for instance in read_instances(server.data).values())


def ended_ms(instance: Instance, step: str) -> int:
    return next(
        entry.at_ms
        for entry in instance.entries
        if isinstance(entry, StepSucceeded | StepFailed) and str(entry.key) == step
    )


def begun_ms(instance: Instance, step: str) -> int:
    """When the attempt began that succeeded."""
    begun = [
        entry.at_ms
        for entry in instance.entries
        if isinstance(entry, StepStarted | AttemptStarted) and str(entry.key) == step
    ]
    return begun[-1]


def assert_order(instance: Instance) -> None:
    """The last step began when the two were over, which it had asked for together."""
    marks = {(type(entry), str(getattr(entry, "key", ""))): entry.seq for entry in instance.entries}
    one, two, final = "dependency 1-1", "dependency 2-1", "final step-1"
    asked = max(marks[StepStarted, one], marks[StepStarted, two])
    over = marks[StepSucceeded, one], marks[StepSucceeded, two]
    assert asked < min(over)
    assert max(over) < marks[StepStarted, final]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_waits_of_each_kind_are_honoured_however_often_the_server_is_killed(server, tmp_path: Path) -> None:
    random = Random(SEED)
    moments_s = [random.uniform(0, 1) for _ in range(KILLS)]
    given = {
        f"graph-{number}": {
            "first_ms": random.randrange(10, 400),
            "second_ms": random.randrange(10, 800),
            "nap_ms": random.randrange(300, 2000),
            "until_ms": int(time.time() * 1000) + random.randrange(1500, 5000),
            "wait_ms": random.randrange(1, 1500),
        }
        for number in range(12)
    }
    witnessed, found = Witnessed(tmp_path / "witness.jsonl"), list[dict[str, Instance]]()
    graphs = server(WORKERS / "graph", WITNESS=tmp_path / "witness.jsonl")
    with told(moments_s):
        graphs.start()
        with graphs.edge.client() as client:
            made = client.post("/", json=[{"id": id, "params": params} for id, params in given.items()])
        assert made.json() == list(given)
        for moment_s in moments_s:
            found.append(killed_after(graphs, moment_s))
            assert found[-1].keys() == given.keys(), "an acknowledged instance is gone"
            witnessed.killed(found[-1])
            # Nobody asks this server for anything.
            graphs.start()
        eventually(lambda: all_complete(graphs), WITHIN_S, every_s=0.1)
        graphs.kill()
        ended = read_instances(graphs.data)
        counts = witnessed.counts()
        for id, params in given.items():
            instance = ended[id]
            assert_order(instance)
            for step, least_ms in (("dependency 1-1", params["first_ms"]), ("dependency 2-1", params["second_ms"])):
                assert ended_ms(instance, step) - begun_ms(instance, step) >= least_ms - 1
            for wait, before, lasts_ms in (
                ("nap-1", "final step-1", params["nap_ms"]),
                ("never-1", "after instant-1", params["wait_ms"]),
            ):
                started = instance.started(wait)
                assert ended_ms(instance, before) + lasts_ms <= started.due_ms <= started.at_ms + lasts_ms
            assert instance.started("instant-1").due_ms == params["until_ms"]
            for wait, after in (("nap", "after nap"), ("instant", "after instant"), ("never", "after wait")):
                due_ms = instance.started(f"{wait}-1").due_ms
                assert ended_ms(instance, f"{wait}-1") >= due_ms
                assert witnessed.first_ms(id, f"{after}-1") >= due_ms
                # What was recorded before a kill is what was waited for after it.
                for left in found:
                    assert not left[id].has(f"{wait}-1") or left[id].started(f"{wait}-1").due_ms == due_ms
        assert set(counts) == {
            (id, step) for id in given for step in ended[id].recorded - {"nap-1", "instant-1", "never-1"}
        }
        # What was cut short runs once more in each life.
        assert max(counts.values()) <= 1 + KILLS
        assert outputs(graphs) == {id: [1, 2, "WorkflowTimeoutError"] for id in given}
        assert_sound(graphs.data)


def outputs(server: CrashServer) -> dict[str, Any]:
    def load(snapshot: Any) -> dict[str, Any]:
        found = instances.scan(snapshot, "graph", "graph")
        return {id: payloads.decode_plain(record.output) for id, record in found if record.output is not None}

    return read(server.data, load)


@pytest.mark.needs("examples")
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_cloudflares_example_completes_with_its_waits_however_often_it_is_killed(server) -> None:
    random = Random(SEED)
    moments_s = [random.uniform(0, 7) for _ in range(KILLS)]
    found: list[dict[str, Instance]] = []
    example = server(Path(os.environ["EDGE_EXAMPLES"]) / "10-workflows")
    with told(moments_s):
        example.start()
        with example.edge.client() as client:
            ids = [client.get("/start").text.rpartition(" ")[2] for _ in range(3)]
        for moment_s in moments_s:
            found.append(killed_after(example, moment_s))
            assert found[-1].keys() == set(ids), "an acknowledged instance is gone"
            example.start()
        eventually(lambda: all_complete(example), WITHIN_S, every_s=0.1)
        with example.edge.client() as client:
            for id in ids:
                assert client.get(f"/status/{id}").json() == {"status": "complete", "output": None, "error": None}
        example.kill()
        for instance in read_instances(example.data).values():
            assert_order(instance)
            # The least that the example sleeps in these steps.
            for step, least_ms in (("dependency 1-1", 1000), ("dependency 2-1", 5000)):
                assert ended_ms(instance, step) - begun_ms(instance, step) >= least_ms - 1
        lives = zip(found, example.lives[1:], strict=True)
        for before, life in lives:
            for step, text in (
                ("dependency 1-1", "executing dep1"),
                ("dependency 2-1", "executing dep2"),
                ("final step-1", "I awaited the first two steps"),
            ):
                left = sum(step not in instance.recorded for instance in before.values())
                assert life.output.count(text) <= left, f"a recorded {step} ran again"
        assert_sound(example.data)
