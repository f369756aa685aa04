"""What do the meter and the soft stop cost, on hello and on a durable step, against the same build without them?

Both run beside each other and take turns in rounds of some ten milliseconds, so that what else the machine does falls
on both of a pair; the figure is the median of the pairs' ratios. By instructions too, where `perf` counts them.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator

from bench.figure import Figure
from bench.instructions import instructions
from bench.load import send_requests
from bench.paired import in_turn, paired
from bench.processes import HERE, Server, edge_dev

INSTANCES = 25
STEPS = 10
REQUESTS = 400
CONNECTIONS = 8
ROUNDS = 101
COUNTED = 20
"""Rounds that are one count of instructions."""
COUNTS = 5
WORKER = HERE / "workers/metering"


def run() -> Iterator[Figure]:
    with edge_dev(WORKER) as on, edge_dev(WORKER, "--var", "METER:off") as off:
        yield from _compare("hello", on, off, cpu_us_of_hello, REQUESTS)
        yield from _compare("durable step", on, off, cpu_us_per_step, INSTANCES * STEPS)


def _compare(
    what: str, on: Server, off: Server, cpu_us: Callable[[Server], float], operations: int
) -> Iterator[Figure]:
    def load(worker: Server) -> None:
        for _ in range(COUNTED):
            cpu_us(worker)

    for worker in (on, off):
        load(worker)
    found = in_turn(ROUNDS, lambda: cpu_us(on), lambda: cpu_us(off))
    yield Figure(f"{what}, CPU with the meter off", found.second, "us")
    yield Figure(f"{what}, CPU with the meter on", found.first, "us")
    note = f"CPU time; 95 % interval of {ROUNDS} pairs {found.low:.3f} to {found.high:.3f}"
    yield Figure(f"{what}, with the meter against without", found.ratio, "x", bound=1.05, note=note)
    counts = [(instructions(on, lambda: load(on)), instructions(off, lambda: load(off))) for _ in range(COUNTS)]
    known = [(a, b) for a, b in counts if a is not None and b is not None]
    if known:
        counted = paired([float(a) for a, _ in known], [float(b) for _, b in known])
        each = COUNTED * operations
        note = f"{counted.first / each:.0f} against {counted.second / each:.0f}, of the isolate"
        yield Figure(f"{what}, with the meter against without, instructions", counted.ratio, "x", bound=1.05, note=note)


def cpu_us_of_hello(worker: Server) -> float:
    before_us = worker.cpu_us()
    send_requests(worker.port, "/", REQUESTS, CONNECTIONS)
    return (worker.cpu_us() - before_us) / REQUESTS


def cpu_us_per_step(worker: Server) -> float:
    """The isolate's own CPU for one step of many instances at once, their creation included."""
    with urllib.request.urlopen(f"http://127.0.0.1:{worker.port}/{INSTANCES}x{STEPS}") as answer:
        found: dict[str, float] = json.load(answer)
    return found["cpu_s"] / (INSTANCES * STEPS) * 1e6
