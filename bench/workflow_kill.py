"""Are runs that were killed half-way complete as soon as their remaining work allows?"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.figure import Figure
from bench.processes import HERE, server
from bench.stored import look
from bench.workflow_steps import ask
from edge_runtime.store.api import Snapshot
from edge_runtime.workflows.core.journal import StepSucceeded
from edge_runtime.workflows.stored import blocks, instances
from edge_runtime.workflows.stored.instances import FINAL

RUNS = 200
STEPS = 10
WORK_MS = 200
WITHIN_S = 60
WORKER, WORKFLOW = "workflows", "slow"


def run() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        command: list[object] = [sys.executable, "-m", "edge_runtime", "dev", HERE / "workers/workflows", "--port", 0]
        command += ["--data", data, "--quiet"]
        with server(command, data) as worker:
            ask(worker, f"/slow?n={RUNS}&steps={STEPS}&work_ms={WORK_MS}")
            time.sleep(STEPS * WORK_MS / 1000 / 2)
            os.killpg(worker.pid, signal.SIGKILL)
        steps_left = STEPS - min(look(data, _recorded))
        restarted_s = time.perf_counter()
        with server(command, data):
            while (complete := look(data, _complete)) < RUNS and time.perf_counter() - restarted_s < WITHIN_S:
                time.sleep(0.2)
            elapsed_s = time.perf_counter() - restarted_s
    work_s = steps_left * WORK_MS / 1000
    yield Figure("killed runs that complete by themselves", complete, "", bound=RUNS, sense="at least")
    note = f"{RUNS} runs, {elapsed_s:.1f} s from the start of the process, less {work_s:.1f} s of remaining work"
    what = "killed runs, until all are complete beyond their remaining work"
    yield Figure(what, elapsed_s - work_s, "s", bound=2, cpu_bound=True, note=note)


def _recorded(snapshot: Snapshot) -> list[int]:
    """How many steps each run has recorded."""
    return [
        sum(isinstance(entry, StepSucceeded) for entry in blocks.load(snapshot, WORKER, WORKFLOW, id, 0).entries)
        for id in instances.ids(snapshot, WORKER, WORKFLOW)
    ]


def _complete(snapshot: Snapshot) -> int:
    return sum(1 for status in FINAL for _ in instances.ids(snapshot, WORKER, WORKFLOW, status))
