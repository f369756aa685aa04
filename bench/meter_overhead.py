"""What do the meter and the soft stop cost, on hello and on a durable step, against the same build without them?"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator

from bench.figure import Figure
from bench.instructions import instructions
from bench.load import alternating, cpu_us_per_request, send_requests
from bench.processes import HERE, Server, edge_dev

INSTANCES = 50
STEPS = 10
REQUESTS = 2000
ROUNDS = 5
WORKER = HERE / "workers/metering"


def run() -> Iterator[Figure]:
    with edge_dev(WORKER) as on, edge_dev(WORKER, "--var", "METER:off") as off:
        yield from _compare("hello", on, off, cpu_us_per_request, _hello, REQUESTS)
        yield from _compare("durable step", on, off, cpu_us_per_step, cpu_us_per_step, INSTANCES * STEPS)


def _compare(
    what: str,
    on: Server,
    off: Server,
    cpu_us: Callable[[Server], float],
    load: Callable[[Server], object],
    operations: int,
) -> Iterator[Figure]:
    for worker in (on, off):
        load(worker)
    with_us, without_us = alternating(ROUNDS, lambda: cpu_us(on), lambda: cpu_us(off))
    yield Figure(f"{what}, CPU with the meter off", without_us, "us")
    yield Figure(f"{what}, CPU with the meter on", with_us, "us")
    counts = [(instructions(on, lambda: load(on)), instructions(off, lambda: load(off))) for _ in range(ROUNDS)]
    known = sorted((a / b, a, b) for a, b in counts if a is not None and b is not None)
    if known:
        ratio, with_meter, without = known[len(known) // 2]
        note = f"by instructions, {with_meter / operations:.0f} against {without / operations:.0f}"
    else:
        ratio, note = with_us / without_us, "by CPU time: perf cannot count instructions here"
    yield Figure(f"{what}, with the meter against without", ratio, "x", bound=1.05, note=note)


def _hello(worker: Server) -> None:
    send_requests(worker.port, "/", REQUESTS, 8)


def cpu_us_per_step(worker: Server) -> float:
    """The isolate's own CPU for one step of many instances at once, their creation included."""
    with urllib.request.urlopen(f"http://127.0.0.1:{worker.port}/{INSTANCES}x{STEPS}") as answer:
        found: dict[str, float] = json.load(answer)
    return found["cpu_s"] / (INSTANCES * STEPS) * 1e6
