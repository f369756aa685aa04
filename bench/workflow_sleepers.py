"""What does an instance that sleeps take, and how many can be created in a second?"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

from bench.figure import Figure
from bench.processes import HERE, edge_dev
from bench.stored import look
from bench.workflow_steps import ask
from edge_runtime.limits import ACTOR_SWEEP_S
from edge_runtime.store.api import Snapshot
from edge_runtime.workflows.stored import instances
from edge_runtime.workflows.stored.instances import Status

SLEEPERS = 10_000
WITHIN_S = 120


def run() -> Iterator[Figure]:
    with edge_dev(HERE / "workers/workflows") as worker:
        ask(worker, "/steps?n=50&steps=10")
        memory_mb, disk = sum(map(_written_mb, worker.pids())), _used(worker.data)
        created = ask(worker, f"/sleepers?n={SLEEPERS}")
        _wait_until_asleep(worker.data)
        memory_mb = sum(map(_written_mb, worker.pids())) - memory_mb
        disk = _used(worker.data) - disk
    yield Figure(
        "instances created per second by createBatch",
        SLEEPERS / created["elapsed_s"],
        "1/s",
        bound=3000,
        sense="at least",
    )
    yield Figure("sleeping instance, memory", memory_mb * 1024 / SLEEPERS, "kB", bound=0.2)
    yield Figure("sleeping instance, disk", disk / 1024 / SLEEPERS, "kB", bound=1)


def _wait_until_asleep(data: Path) -> None:
    """Return when all have begun their sleep, with time to leave memory."""

    def asleep(now: Snapshot) -> int:
        return sum(1 for _ in instances.ids(now, "workflows", "sleepers", Status.WAITING))

    deadline_s = time.monotonic() + WITHIN_S
    while (found := look(data, asleep)) < SLEEPERS:
        if time.monotonic() > deadline_s:
            raise RuntimeError(f"{found} of {SLEEPERS} instances sleep after {WITHIN_S} s")
        time.sleep(0.5)
    time.sleep(3 * ACTOR_SWEEP_S)


def _written_mb(pid: int) -> float:
    """Memory of the process's own; pages of the store that it has read are the page cache's."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(kb) for kb in re.findall(r"^Private_Dirty: +(\d+) kB", text, re.MULTILINE)) / 1024


def _used(data: Path) -> int:
    return sum(file.stat().st_blocks * 512 for file in (data / "store").iterdir() if file.is_file())
