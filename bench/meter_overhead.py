"""What do the meter and the soft stop cost, on hello and on a durable step, against the same build without them?

Two processes of the same code differ by some percent for all of their lives, so both are measured in one: its meter is
turned on and off in turn, for some hundred milliseconds each, so that what else the machine does falls on both of a
pair. The interpreter specialises code to what it meets, so after each turn comes a while that is not measured. The
figure is the median of the pairs' ratios, of several processes. By the processor's cycles too, where `perf` counts
them: CPU time contains what a hypervisor takes, cycles do not.
"""

from __future__ import annotations

import math
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from bench.figure import Figure
from bench.instructions import cycles, isolate_of
from bench.load import send_requests
from bench.paired import in_turn, paired
from bench.processes import HERE, Server, edge_dev
from edge_runtime.process_cpu import process_clock

INSTANCES = 25
STEPS = 10
REQUESTS = 400
CONNECTIONS = 8
PROCESSES = 4
PAIRS = 20
"""Of CPU times, of each process."""
COUNTED_PAIRS = 10
"""Of cycles, of each process."""
COUNTED_ROUNDS = 8
"""In one count of them."""
WARM_ROUNDS = 10
REST_S = 0.01
"""The isolate rests if its CPU clock has stood still for so long."""
TURNED_ROUNDS = 3
"""After each turn, not measured and then measured."""
WORKER = HERE / "workers/metering"


class Load(NamedTuple):
    what: str
    send: Callable[[Server], None]
    operations: int

    def cpu_us(self, worker: Server, meter: str) -> float:
        """The isolate's CPU time of an operation, with the meter turned "on" or "off" and what that changes warmed
        up."""
        turn(worker, meter)
        self.repeat(worker, TURNED_ROUNDS)
        before_us = at_rest_us(worker)
        self.repeat(worker, TURNED_ROUNDS)
        return (at_rest_us(worker) - before_us) / TURNED_ROUNDS / self.operations

    def cycles(self, worker: Server, meter: str) -> float:
        """The isolate's for an operation; NaN where `perf` cannot count them."""
        turn(worker, meter)
        self.repeat(worker, TURNED_ROUNDS)
        found = cycles(worker, lambda: self.repeat(worker, COUNTED_ROUNDS))
        return math.nan if found is None else found / COUNTED_ROUNDS / self.operations

    def repeat(self, worker: Server, rounds: int) -> None:
        for _ in range(rounds):
            self.send(worker)


class Taken(NamedTuple):
    """By pair; with the meter, and without."""

    on: list[float]
    off: list[float]


def run() -> Iterator[Figure]:
    loads = (
        Load("hello", send_hello, REQUESTS),
        Load("durable step", send_steps, INSTANCES * STEPS),
    )
    cpu_us = {load: Taken([], []) for load in loads}
    counts = {load: Taken([], []) for load in loads}
    for _ in range(PROCESSES):
        with edge_dev(WORKER) as worker:
            for load in loads:
                load.repeat(worker, WARM_ROUNDS)
                _measure(load, worker, cpu_us[load], counts[load])
    for load in loads:
        yield from _figures(load, cpu_us[load], counts[load])


def _measure(load: Load, worker: Server, cpu_us: Taken, counts: Taken) -> None:
    for pairs, measure, into in ((PAIRS, load.cpu_us, cpu_us), (COUNTED_PAIRS, load.cycles, counts)):
        on, off = in_turn(pairs, partial(measure, worker, "on"), partial(measure, worker, "off"))
        into.on.extend(on)
        into.off.extend(off)


def _figures(load: Load, cpu_us: Taken, counts: Taken) -> Iterator[Figure]:
    what, found = load.what, paired(cpu_us.on, cpu_us.off)
    yield Figure(f"{what}, CPU with the meter off", found.second, "us")
    yield Figure(f"{what}, CPU with the meter on", found.first, "us")
    note = f"CPU time; 95 % interval of {len(cpu_us.on)} pairs {found.low:.3f} to {found.high:.3f}"
    yield Figure(f"{what}, with the meter against without", found.ratio, "x", bound=1.05, note=note)
    if not any(map(math.isnan, counts.on + counts.off)):
        counted = paired(counts.on, counts.off)
        note = f"95 % interval of {len(counts.on)} pairs {counted.low:.3f} to {counted.high:.3f}"
        yield Figure(f"{what}, with the meter against without, cycles", counted.ratio, "x", bound=1.05, note=note)


def turn(worker: Server, meter: str) -> None:
    """Turn it "on" or "off"."""
    with urllib.request.urlopen(f"http://127.0.0.1:{worker.port}/{meter}") as answer:
        answer.read()


def at_rest_us(worker: Server) -> float:
    """The isolate's CPU clock when it has nothing left to do: what follows the last answer belongs to the load, and how
    much that is depends on what else runs when it ends."""
    clock = process_clock(isolate_of(worker))
    before_ns, now_ns = -1, time.clock_gettime_ns(clock)
    while before_ns != now_ns:
        time.sleep(REST_S)
        before_ns, now_ns = now_ns, time.clock_gettime_ns(clock)
    return now_ns / 1000


def send_hello(worker: Server) -> None:
    send_requests(worker.port, "/", REQUESTS, CONNECTIONS)


def send_steps(worker: Server) -> None:
    """Many instances at once, from their creation until the last has ended."""
    with urllib.request.urlopen(f"http://127.0.0.1:{worker.port}/{INSTANCES}x{STEPS}") as answer:
        answer.read()
