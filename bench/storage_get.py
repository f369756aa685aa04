"""What does `storage.get` of a small dict cost, from memory and from the store?"""

from __future__ import annotations

from collections.abc import Iterator

from bench.figure import Figure
from bench.load import alternating, cpu_us_per_request, send_requests
from bench.processes import HERE, edge_dev

GETS = 500


def run() -> Iterator[Figure]:
    with edge_dev(HERE / "workers/objects") as worker:
        send_requests(worker.port, "/fill", 1, 1)
        none_us, one_us, many_us = alternating(
            3,
            lambda: cpu_us_per_request(worker, "/read-one?n=0", 400),
            lambda: cpu_us_per_request(worker, f"/read-one?n={GETS}", 400),
            lambda: cpu_us_per_request(worker, f"/read-many?n={GETS}", 400),
        )
    yield Figure("storage.get of one key again and again, CPU per get", (one_us - none_us) / GETS, "us", bound=3)
    yield Figure("storage.get of many keys in turn, CPU per get", (many_us - none_us) / GETS, "us", bound=8)
