"""`edge bench` with real servers and small loads."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from edge_process import EDGE, eventually
from script_workers import write_worker

HANDLER = """
import time
from workers import Response, WorkerEntrypoint, WorkflowEntrypoint


def burn(milliseconds):
    ends = time.thread_time_ns() + milliseconds * 1_000_000
    while time.thread_time_ns() < ends:
        pass


async def step():
    burn(2)


class Flow(WorkflowEntrypoint):
    async def run(self, event, step_):
        for number in range(event.payload["steps"]):
            await step_.do(f"step {number}", step)


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        if request.url.endswith("/fail"):
            return Response("no such thing", status=404)
        if request.method == "POST":
            await self.env.KV.put("body", await request.text())
        burn(BURN_MS)
        return Response("ok")
"""
QUICK = ("--count", 4, "--rounds", 3, "--warm-up", 2, "--connections", 2)


def worker(folder: Path, burn_ms: int) -> Path:
    return write_worker(
        folder,
        HANDLER.replace("BURN_MS", str(burn_ms)),
        kv_namespaces=[{"binding": "KV", "id": "bodies"}],
        workflows=[{"name": "flow", "binding": "FLOW", "class_name": "Flow"}],
    )


def bench(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*EDGE, "bench", *map(str, arguments)], capture_output=True, text=True, check=False)


def document(*arguments: object, code: int = 0) -> dict:
    done = bench(*arguments, "--json")
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_requests_are_measured_with_what_they_write_and_commit(tmp_path):
    folder = worker(tmp_path / "shop", 5)
    found = document(folder, *QUICK, "--request", "POST /orders", "--body", "two of them")
    (result,) = found["results"]
    assert found["failures"] == []
    assert result["operations"] == 12
    assert 5000 <= result["cpu_us"]["p50"] <= result["cpu_us"]["p95"] <= result["cpu_us"]["p99"]
    assert result["user_us"] >= 5000
    assert result["isolate_us"] > result["user_us"]
    assert result["latency_ms"]["count"] == 12
    assert result["quantities"]["kv_writes"] == 1
    assert result["commits"] > 0
    # A request for 0.30, its CPU time of 5 ms and more for 0.10, a KV write for 5.00.
    assert 5.4 <= float(result["million_at_list_price"]["cloudflare"]) < 7
    assert result["peak_mb"] > result["private_mb"] > 0
    assert [(each["kind"], each["per_operation"]) for each in result["handlers"]] == [("fetch", 1)]


def test_two_workers_are_compared_and_the_costlier_fails_the_thresholds(tmp_path):
    cheap, dear = worker(tmp_path / "cheap", 1), worker(tmp_path / "dear", 20)
    done = bench(cheap, dear, *QUICK, "--max-more", 100, "--at-most", "p50=1500")
    assert done.returncode == 1, done.stdout + done.stderr
    (verdict,) = (line for line in done.stdout.splitlines() if line.startswith("CPU of the script: "))
    assert verdict.endswith(": more")
    assert f"failed: {dear}: p50 is " in done.stderr
    assert "failed: CPU of the script: +" in done.stderr


def test_steps_of_a_workflow_are_measured(tmp_path):
    folder = worker(tmp_path / "flows", 0)
    found = document(folder, "--workflow", "flow", "--params", '{"steps": 3}', *QUICK)
    (result,) = found["results"]
    assert result["operations"] == 36
    assert result["cpu_us"]["p50"] >= 2000
    assert result["latency_ms"]["count"] == 12
    assert result["quantities"]["steps"] == 1
    assert {each["handler"] for each in result["handlers"]} == {"flow", "flow/step 0", "flow/step 1", "flow/step 2"}


@pytest.mark.needs("ptrace", "profiler")
def test_flame_graph_shows_the_function_that_takes_the_time(tmp_path):
    folder = worker(tmp_path / "hot", 10)
    found = document(folder, *QUICK, "--flame", tmp_path / "flame.svg", "--flame-s", 2)
    assert "burn" in (tmp_path / "flame.svg").read_text()
    (burn,) = (cost for cost in found["largest_costs"] if cost["function"].startswith("burn "))
    assert burn["own"] > 0.2


def test_answers_of_400_and_above_are_not_measured(tmp_path):
    done = bench(worker(tmp_path / "shop", 0), *QUICK, "--request", "/fail")
    assert done.returncode == 1
    assert "GET /fail: it was answered with 404: no such thing" in done.stderr
    assert "Traceback" not in done.stderr


def test_instances_that_fail_are_not_measured(tmp_path):
    done = bench(worker(tmp_path / "shop", 0), *QUICK, "--workflow", "flow", "--params", "{}")
    assert done.returncode == 1
    assert "cannot measure workflow flow: an instance ended errored: " in done.stderr


def test_worker_that_does_not_load_is_shown_with_what_it_said(tmp_path):
    done = bench(write_worker(tmp_path / "broken", "import nothing_of_this_name\n"), *QUICK)
    assert done.returncode == 1
    assert "nothing_of_this_name" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_benchmark_that_is_ended_leaves_no_server_behind(tmp_path, number):
    folder, scratch = worker(tmp_path / "shop", 5), tmp_path / "scratch"
    scratch.mkdir()
    command = [*EDGE, "bench", str(folder), "--count", "1000000"]
    with subprocess.Popen(command, env={**os.environ, "TMPDIR": str(scratch)}, start_new_session=True) as bench:
        eventually(lambda: list(scratch.glob("*/store/data.mdb")))
        eventually(lambda: len(processes_of(scratch)) >= 1)
        bench.send_signal(number)
    assert bench.returncode == -number
    eventually(lambda: not processes_of(scratch))
    if number == signal.SIGTERM:
        assert not list(scratch.iterdir())


def processes_of(folder: Path) -> list[int]:
    """Servers whose data directory is in this folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended
            if str(folder).encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found
