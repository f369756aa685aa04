"""What does an RPC call to an object in the same isolate cost?"""

from __future__ import annotations

from collections.abc import Iterator

from bench.figure import Figure
from bench.load import alternating, cpu_us_per_request
from bench.processes import HERE, edge_dev

CALLS = 100


def run() -> Iterator[Figure]:
    with edge_dev(HERE / "workers/objects") as worker:
        none_us, all_us = alternating(
            3,
            lambda: cpu_us_per_request(worker, "/rpc?n=0", 800),
            lambda: cpu_us_per_request(worker, f"/rpc?n={CALLS}", 800),
        )
    yield Figure("RPC to an object in the same isolate, CPU per call", (all_us - none_us) / CALLS, "us", bound=60)
