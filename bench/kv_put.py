"""How many KV puts of 64 clients share one fsync, and what does a put cost?"""

from __future__ import annotations

import time
from collections.abc import Iterator

from bench.commits import commits as commits_of
from bench.figure import Figure
from bench.load import send_requests
from bench.processes import HERE, edge_dev

CLIENTS = 64
PUTS = 6400


def run() -> Iterator[Figure]:
    with edge_dev(HERE / "workers/kv") as worker:
        send_requests(worker.port, "/put", CLIENTS, CLIENTS)
        commits, cpu_us, started = commits_of(worker.data), worker.cpu_us(), time.perf_counter()
        send_requests(worker.port, "/put", PUTS, CLIENTS)
        elapsed_s = time.perf_counter() - started
        commits, cpu_us = commits_of(worker.data) - commits, worker.cpu_us() - cpu_us
    note = "one fdatasync and one synced meta page per commit"
    yield Figure("KV puts per commit, 64 clients", PUTS / commits, "puts", bound=8, sense="at least", note=note)
    yield Figure("KV put through HTTP, 64 clients, CPU per request", cpu_us / PUTS, "us")
    yield Figure("KV puts per second, 64 clients", PUTS / elapsed_s, "1/s")
