"""What do the meter and the soft stop cost, on hello and on a durable step, against the same build without them?

Both run beside each other and take turns in rounds of some ten milliseconds, so that what else the machine does falls
on both of a pair; the figure is the median of the pairs' ratios. Two processes of the same code differ by some percent
for all of their lives, so several of each are measured. By instructions too, where `perf` counts them.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
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
"""Of each of the two."""
ROUNDS = 20
COUNTED = 20
"""Rounds that are one count of instructions."""
WORKER = HERE / "workers/metering"


class Load(NamedTuple):
    what: str
    cpu_us: Callable[[Server], float]
    operations: int

    def repeat(self, worker: Server) -> None:
        for _ in range(COUNTED):
            self.cpu_us(worker)


class Taken(NamedTuple):
    """By process, or by round of one; with the meter, and without."""

    on: list[float]
    off: list[float]


def run() -> Iterator[Figure]:
    loads = (
        Load("hello", cpu_us_of_hello, REQUESTS),
        Load("durable step", cpu_us_per_step, INSTANCES * STEPS),
    )
    cpu_us = {load: Taken([], []) for load in loads}
    counts = {load: Taken([], []) for load in loads}
    for number in range(PROCESSES):
        with ExitStack() as stack:
            servers = {}
            for meter in ("on", "off") if number % 2 else ("off", "on"):
                servers[meter] = stack.enter_context(edge_dev(WORKER, "--var", f"METER:{meter}"))
            on, off = servers["on"], servers["off"]
            for load in loads:
                load.repeat(on)
                load.repeat(off)
                _measure(load, on, off, cpu_us[load], counts[load])
    for load in loads:
        yield from _figures(load, cpu_us[load], counts[load])


def _measure(load: Load, on: Server, off: Server, cpu_us: Taken, counts: Taken) -> None:
    with_it, without = in_turn(ROUNDS, lambda: load.cpu_us(on), lambda: load.cpu_us(off))
    cpu_us.on.extend(with_it)
    cpu_us.off.extend(without)
    counted = [instructions(server, partial(load.repeat, server)) for server in (on, off)]
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


def cpu_us_of_hello(worker: Server) -> float:
    before_us = worker.cpu_us()
    send_requests(worker.port, "/", REQUESTS, CONNECTIONS)
    return (worker.cpu_us() - before_us) / REQUESTS


def cpu_us_per_step(worker: Server) -> float:
    """The isolate's own CPU for one step of many instances at once, their creation included."""
    with urllib.request.urlopen(f"http://127.0.0.1:{worker.port}/{INSTANCES}x{STEPS}") as answer:
        found: dict[str, float] = json.load(answer)
    return found["cpu_s"] / (INSTANCES * STEPS) * 1e6
