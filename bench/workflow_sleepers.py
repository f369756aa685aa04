"""What does an instance that sleeps take, and how many can be created in a second?"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from bench.figure import Figure
from bench.processes import HERE, edge_dev, private_mb
from bench.workflow_steps import ask
from edge_runtime.limits import INSTANCE_IDLE_MS

SLEEPERS = 10_000


def run() -> Iterator[Figure]:
    with edge_dev(HERE / "workers/workflows") as worker:
        ask(worker, "/steps?n=50&steps=10")
        memory_mb, disk = sum(map(private_mb, worker.pids())), _used(worker.data)
        created = ask(worker, f"/sleepers?n={SLEEPERS}")
        time.sleep(INSTANCE_IDLE_MS / 1000 + 15)
        memory_mb = sum(map(private_mb, worker.pids())) - memory_mb
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


def _used(data: Path) -> int:
    return sum(file.stat().st_blocks * 512 for file in (data / "store").iterdir() if file.is_file())
