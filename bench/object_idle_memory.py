"""Is the memory of 10,000 objects given back once they are idle?"""

from __future__ import annotations

import time
from collections.abc import Iterator

from bench.figure import Figure
from bench.load import send_requests
from bench.processes import HERE, Server, edge_dev, private_mb

OBJECTS = 10_000
EVICTED_S = 25
"""Idle objects are evicted after 10 s; an isolate with nothing else to do that has grown is ended after 15 s."""


def run() -> Iterator[Figure]:
    with edge_dev(HERE / "workers/objects") as worker:
        send_requests(worker.port, "/increment?n=100", 800, 8)
        time.sleep(EVICTED_S)
        before_mb = _memory_mb(worker)
        send_requests(worker.port, f"/increment?n={OBJECTS}", OBJECTS, 8)
        active_mb = _memory_mb(worker)
        time.sleep(EVICTED_S)
        idle_mb = _memory_mb(worker)
    note = f"{before_mb:.1f} MB before"
    yield Figure("10,000 objects, memory of the last 10 s' ones, all processes", active_mb - before_mb, "MB", note=note)
    yield Figure("10,000 objects, memory kept once they are idle", idle_mb - before_mb, "MB", bound=15)


def _memory_mb(server: Server) -> float:
    return sum(private_mb(pid) for pid in server.pids())
