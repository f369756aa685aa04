"""What does a durable increment in a Durable Object cost above a hello, and how many increments share one fsync?"""

from __future__ import annotations

from collections.abc import Iterator

from bench.commits import commits as commits_of
from bench.figure import Figure
from bench.load import alternating, cpu_us_per_request
from bench.processes import HERE, Server, edge_dev

CLIENTS = 32
REQUESTS = 3200


def run() -> Iterator[Figure]:
    with edge_dev(HERE / "workers/objects") as worker:
        per_commit: dict[int, float] = {}

        def increment_us(objects: int) -> float:
            before = commits_of(worker.data)
            cost_us = cpu_us_per_request(worker, f"/increment?n={objects}", REQUESTS, CLIENTS)
            # The warm-up is a tenth on top.
            per_commit[objects] = REQUESTS * 1.1 / (commits_of(worker.data) - before)
            return cost_us

        hello_us, one_us, many_us = alternating(
            3, lambda: _hello_us(worker), lambda: increment_us(1), lambda: increment_us(100)
        )
    yield Figure("hello beside it, 32 clients, CPU per request", hello_us, "us")
    yield Figure("increment on 1 object, 32 clients, CPU above hello", one_us - hello_us, "us", bound=150)
    yield Figure("increment on 100 objects, 32 clients, CPU above hello", many_us - hello_us, "us", bound=150)
    for objects, value in per_commit.items():
        what = f"increments per fsync, {objects} object{'s' if objects > 1 else ''}, 32 clients"
        yield Figure(what, value, "increments", bound=8, sense="at least")


def _hello_us(worker: Server) -> float:
    return cpu_us_per_request(worker, "/hello", REQUESTS, CLIENTS)
