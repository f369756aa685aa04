"""What does a durable step cost, and how many can one isolate do?"""

from __future__ import annotations

import json
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import lmdb

from bench.commits import commits as commits_of
from bench.figure import Figure
from bench.processes import HERE, Server, edge_dev

INSTANCES = 50
STEPS = 10
ROUNDS = 9
COMMITS = 10


def run() -> Iterator[Figure]:
    with edge_dev(HERE / "workers/workflows") as worker:
        ask(worker, f"/steps?n={INSTANCES}&steps={STEPS}")
        many = [ask(worker, f"/steps?n={INSTANCES}&steps={STEPS}") for _ in range(ROUNDS)]
        commit_ms = _commit_ms(worker.data)
        one = [ask(worker, f"/steps?n=1&steps={STEPS}") for _ in range(ROUNDS)]
        per_steps = median(_commits_of_steps(worker) for _ in range(ROUNDS))
    steps = INSTANCES * STEPS
    note = f"{INSTANCES} instances of {STEPS} no-op steps, created and run; the isolate's own CPU"
    cpu_us = min(found["cpu_s"] for found in many) / steps * 1e6
    yield Figure("durable step, CPU", cpu_us, "us", bound=120, note=note)
    yield Figure(
        "durable steps per second, one isolate",
        steps / min(found["elapsed_s"] for found in many),
        "1/s",
        bound=5000,
        sense="at least",
    )
    yield Figure("commits of 10 steps, one after the other", per_steps, "", bound=COMMITS)
    elapsed_ms = sorted(found["elapsed_s"] for found in one)[ROUNDS // 2] * 1000
    note = f"{elapsed_ms:.2f} ms in all, less {COMMITS} commits of {commit_ms:.2f} ms here"
    beyond_ms = elapsed_ms - COMMITS * commit_ms
    what = "one instance of 10 steps, create to end, beyond its commits"
    yield Figure(what, beyond_ms, "ms", bound=5, cpu_bound=True, note=note)


def _commits_of_steps(worker: Server) -> int:
    """What an instance takes besides its steps falls out of the difference; usage may be written meanwhile."""
    before = commits_of(worker.data)
    ask(worker, f"/steps?n=1&steps={STEPS}")
    between = commits_of(worker.data)
    ask(worker, f"/steps?n=1&steps={2 * STEPS}")
    return commits_of(worker.data) - between - (between - before)


def _commit_ms(folder: Path) -> float:
    """What one small commit takes on the disk of the server's data."""
    with tempfile.TemporaryDirectory(dir=folder) as place, lmdb.open(place) as environment:
        taken_s = []
        for number in range(100):
            started_s = time.perf_counter()
            with environment.begin(write=True) as transaction:
                transaction.put(number.to_bytes(4, "big"), bytes(200))
            taken_s.append(time.perf_counter() - started_s)
    return sorted(taken_s)[len(taken_s) // 2] * 1000


def ask(worker: Server, path: str) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{worker.port}{path}") as answer:
        found: dict[str, float] = json.load(answer)
    return found
