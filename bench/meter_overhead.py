"""What do the meter and the soft stop cost, on hello and on a durable step, against the same build without them?

Two processes of the same code differ by some percent for all of their lives, so both are measured in one: its meter is
turned on and off in turn, in rounds of some ten milliseconds, so that what else the machine does falls on both of a
pair. The figure is the median of the pairs' ratios, of several processes. By instructions too, where `perf` counts
them.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from bench.figure import Figure
from bench.instructions import instructions
from bench.load import send_requests
from bench.paired import in_turn, paired
from bench.processes import HERE, Server, edge_dev

INSTANCES = 25
STEPS = 10
REQUESTS = 400
CONNECTIONS = 8
PROCESSES = 6
ROUNDS = 30
WARM_ROUNDS = 10
COUNTED = 20
"""Rounds that are one count of instructions."""
WORKER = HERE / "workers/metering"


class Load(NamedTuple):
    what: str
    cpu_us: Callable[[Server], float]
    operations: int

    def with_meter(self, worker: Server, meter: str) -> float:
        """CPU time of an operation, with the meter turned "on" or "off" and what that changes warmed up."""
        turn(worker, meter)
        self.cpu_us(worker)
        return self.cpu_us(worker)

    def instructions(self, worker: Server, meter: str) -> int | None:
        """Of COUNTED rounds."""
        self.with_meter(worker, meter)
        return instructions(worker, lambda: self.repeat(worker, COUNTED))

    def repeat(self, worker: Server, rounds: int) -> None:
        for _ in range(rounds):
            self.cpu_us(worker)


class Taken(NamedTuple):
    """By round of a process, or by process; with the meter, and without."""

    on: list[float]
    off: list[float]


def run() -> Iterator[Figure]:
    loads = (
        Load("hello", cpu_us_of_hello, REQUESTS),
        Load("durable step", cpu_us_per_step, INSTANCES * STEPS),
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
    on, off = in_turn(ROUNDS, partial(load.with_meter, worker, "on"), partial(load.with_meter, worker, "off"))
    cpu_us.on.extend(on)
    cpu_us.off.extend(off)
    counted = [load.instructions(worker, meter) for meter in ("on", "off")]
    if counted[0] is not None and counted[1] is not None:
        counts.on.append(counted[0])
        counts.off.append(counted[1])


def _figures(load: Load, cpu_us: Taken, counts: Taken) -> Iterator[Figure]:
    what, found = load.what, paired(cpu_us.on, cpu_us.off)
    yield Figure(f"{what}, CPU with the meter off", found.second, "us")
    yield Figure(f"{what}, CPU with the meter on", found.first, "us")
    note = f"CPU time; 95 % interval of {len(cpu_us.on)} pairs {found.low:.3f} to {found.high:.3f}"
    yield Figure(f"{what}, with the meter against without", found.ratio, "x", bound=1.05, note=note)
    if counts.on:
        counted, each = paired(counts.on, counts.off), COUNTED * load.operations
        note = f"{counted.first / each:.0f} against {counted.second / each:.0f}, of the isolate"
        yield Figure(f"{what}, with the meter against without, instructions", counted.ratio, "x", bound=1.05, note=note)


def turn(worker: Server, meter: str) -> None:
    """Turn it "on" or "off"."""
    with urllib.request.urlopen(f"http://127.0.0.1:{worker.port}/{meter}") as answer:
        answer.read()


def cpu_us_of_hello(worker: Server) -> float:
    before_us = worker.cpu_us()
    send_requests(worker.port, "/", REQUESTS, CONNECTIONS)
    return (worker.cpu_us() - before_us) / REQUESTS


def cpu_us_per_step(worker: Server) -> float:
    """The isolate's own CPU for one step of many instances at once, their creation included."""
    with urllib.request.urlopen(f"http://127.0.0.1:{worker.port}/{INSTANCES}x{STEPS}") as answer:
        found: dict[str, float] = json.load(answer)
    return found["cpu_s"] / (INSTANCES * STEPS) * 1e6
