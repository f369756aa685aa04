"""What does a very large workflow instance take: 100,000 steps, 10,000 queued events, results of 1 MB?"""

from __future__ import annotations

import json
import os
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

from bench.figure import Figure
from bench.processes import HERE, Server, anonymous_mb, edge_dev
from edge_runtime.limits import INSTANCE_IDLE_MS

STEPS = int(os.environ.get("EDGE_BIG_STEPS", "100000"))
EVENTS = int(os.environ.get("EDGE_BIG_EVENTS", "10000"))
RESULTS = int(os.environ.get("EDGE_BIG_RESULTS", "200"))
_WITHIN_S = 1800


def run() -> Iterator[Figure]:
    with edge_dev(HERE / "workers/big_runs") as worker:
        idle_mb = _memory_mb(worker)
        started_s = time.perf_counter()
        ask(worker, f"/steps?n={STEPS}")
        _until(worker, "STEPS", "waiting")
        run_s = time.perf_counter() - started_s
        grown_mb = _memory_mb(worker) - idle_mb
        time.sleep(INSTANCE_IDLE_MS / 1000 + 5)
        asleep_mb = _memory_mb(worker) - idle_mb
        started_s = time.perf_counter()
        ask(worker, "/go?kind=STEPS")
        _until(worker, "STEPS", "complete")
        replay_s = time.perf_counter() - started_s
    note = f"one instance of {STEPS:,} no-op steps"
    yield Figure("a run of many steps: steps per second", STEPS / run_s, "1/s", note=note)
    yield Figure("the same: memory for each step, while it is in memory", grown_mb * 2**20 / STEPS, "B")
    yield Figure("the same: memory for each step, while it waits", asleep_mb * 2**20 / STEPS, "B")
    yield Figure("the same: replay of each step after a wait", replay_s / STEPS * 1e6, "us")
    with edge_dev(HERE / "workers/big_runs") as worker:
        sent = ask(worker, f"/events?n={EVENTS}")
        started_s = time.perf_counter()
        ask(worker, "/go?kind=EVENTS")
        _until(worker, "EVENTS", "complete")
        taken_s = time.perf_counter() - started_s
    yield Figure("queued events: sent per second", EVENTS / sent["elapsed_s"], "1/s", note=f"{EVENTS:,} events")
    yield Figure("queued events: taken per second, in order", EVENTS / taken_s, "1/s")
    with edge_dev(HERE / "workers/big_runs") as worker:
        idle_mb = _memory_mb(worker)
        ask(worker, f"/results?n={RESULTS}")
        _until(worker, "RESULTS", "waiting")
        grown_mb = _memory_mb(worker) - idle_mb
        ask(worker, "/go?kind=RESULTS")
        _until(worker, "RESULTS", "complete")
    note = f"{RESULTS} results, each dropped by the script"
    yield Figure("results of 1 MB: memory for each", grown_mb / RESULTS, "MB", bound=0.1, note=note)


def ask(worker: Server, path: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{worker.port}{path}", timeout=_WITHIN_S) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def _memory_mb(worker: Server) -> float:
    return sum(map(anonymous_mb, worker.pids()))


def _until(worker: Server, kind: str, status: str) -> None:
    deadline_s = time.perf_counter() + _WITHIN_S
    while True:
        found = ask(worker, f"/status?kind={kind}")
        if found["status"] == status:
            return
        if found["error"] or time.perf_counter() > deadline_s:
            raise RuntimeError(f"the instance is {found}; it was to be {status}")
        time.sleep(0.2)
