"""What does a request through a worker cost, against a bare hypercorn-trio ASGI hello?"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from bench.figure import Figure
from bench.load import alternating, cpu_us_per_request
from bench.processes import HERE, edge_dev, server


def run() -> Iterator[Figure]:
    with (
        server([sys.executable, "-m", "bench.bare"], Path()) as bare,
        edge_dev(HERE / "workers/hello_trio") as worker,
    ):
        bare_us, worker_us = alternating(5, lambda: cpu_us_per_request(bare), lambda: cpu_us_per_request(worker))
    yield Figure("hello, bare hypercorn on trio, CPU per request", bare_us, "us")
    yield Figure("hello through a worker, CPU per request", worker_us, "us")
    yield Figure("hello through a worker against bare hypercorn", worker_us / bare_us, "x", bound=1.25)
