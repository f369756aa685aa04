"""What does FastAPI's hello cost inside a worker, against the same app under uvicorn with httptools?"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from bench.figure import Figure
from bench.load import alternating, cpu_us_per_request
from bench.processes import HERE, edge_dev, server


def run() -> Iterator[Figure]:
    with (
        server([sys.executable, "-m", "bench.uvicorn_fastapi"], Path()) as uvicorn,
        edge_dev(HERE / "workers/fastapi_app") as worker,
    ):
        uvicorn_us, worker_us = alternating(5, lambda: cpu_us_per_request(uvicorn), lambda: cpu_us_per_request(worker))
    yield Figure("FastAPI hello under uvicorn with httptools, CPU per request", uvicorn_us, "us")
    yield Figure("FastAPI hello inside a worker, CPU per request", worker_us, "us")
    yield Figure("FastAPI hello inside a worker against uvicorn", worker_us / uvicorn_us, "x", bound=1.15)
