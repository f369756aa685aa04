"""What does a KV get of 1 KB cost inside a handler?"""

from __future__ import annotations

from collections.abc import Iterator

from bench.figure import Figure
from bench.load import alternating, cpu_us_per_request, send_requests
from bench.processes import HERE, edge_dev

GETS = 100


def run() -> Iterator[Figure]:
    with edge_dev(HERE / "workers/kv") as worker:
        send_requests(worker.port, "/fill", 1, 1)
        none_us, all_us = alternating(
            5,
            lambda: cpu_us_per_request(worker, "/get?n=0", 1500),
            lambda: cpu_us_per_request(worker, f"/get?n={GETS}", 1500),
        )
    yield Figure("KV get of 1 KB in a handler, CPU per get", (all_us - none_us) / GETS, "us", bound=10)
