"""One measured workload of one system, and how it is measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from bench.figure import Figure
from bench.peers.syncs import count_syncs
from edge_runtime.benchmark.figures import percentile

HELLO = "HTTP hello, 8 clients"
ONE_OBJECT = "durable increment, 1 object, 1 client"
BUSY_OBJECT = "durable increment, 1 object, 32 clients"
STEPS_ALONE = "durable step, instances of 10 one by one"
STEPS_TOGETHER = "durable step, 50 instances of 10 begun at once"
WORKLOADS = (HELLO, ONE_OBJECT, BUSY_OBJECT, STEPS_ALONE, STEPS_TOGETHER)

CALLS = {
    HELLO: "a request",
    ONE_OBJECT: "an increment",
    BUSY_OBJECT: "an increment",
    STEPS_ALONE: "an instance of 10 steps",
    STEPS_TOGETHER: "all 50 instances",
}
"""By workload, what a client waits for at a time."""
TOGETHER = 50
STEPS = 10

Drive = Callable[[int], tuple[int, Sequence[float], float]]
"""`drive(share)` sends that share of the load, in percent, at least one call of every client: the operations done, what
was waited for each call (`CALLS`) in ms, and the seconds it took in all."""


class Measured(Protocol):
    """A process of a system, and all below it."""

    def pids(self) -> list[int]: ...
    def cpu_us(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Row:
    """`cpu_us` is of all processes of the system, user and kernel; the load generator is not among them unless `note`
    says so. `syncs` are calls per operation that return once data is on the disk (`bench.peers.syncs`), None where they
    cannot be counted."""

    system: str
    version: str
    workload: str
    operations: int
    cpu_us: float
    per_second: float
    p50_ms: float
    p99_ms: float
    syncs: float | None
    durability: str
    note: str = ""

    def figure(self) -> Figure:
        return Figure(f"{self.workload}: {self.system}", self.cpu_us, "us")

    def line(self) -> str:
        syncs = "not counted" if self.syncs is None else f"{self.syncs:.2f} syncs"
        return f"{self.workload:47} {self.system:40} {self.cpu_us:8.0f} us CPU, {self.p50_ms:8.2f} ms, {syncs}"


@dataclass(frozen=True, slots=True)
class Skipped:
    """A system that was not measured."""

    system: str
    why: str

    def line(self) -> str:
        return f"skipped: {self.system}: {self.why}"


@dataclass(frozen=True, slots=True)
class System:
    name: str
    version: str
    durability: str
    """What an acknowledged write has behind it, in a few words; `Row.syncs` says what was counted."""


def measure(system: System, processes: Sequence[Measured], workload: str, drive: Drive, note: str = "") -> Row:
    """A tenth of the load to warm up, the load, and a fifth of it again with system calls traced."""
    drive(10)
    before = sum(process.cpu_us() for process in processes)
    operations, waited_ms, elapsed_s = drive(100)
    cpu_us = sum(process.cpu_us() for process in processes) - before
    ordered = sorted(waited_ms)
    return Row(
        system=system.name,
        version=system.version,
        workload=workload,
        operations=operations,
        cpu_us=cpu_us / operations,
        per_second=operations / elapsed_s,
        p50_ms=percentile(ordered, 50),
        p99_ms=percentile(ordered, 99),
        syncs=count_syncs([pid for process in processes for pid in process.pids()], lambda: drive(20)[0]),
        durability=system.durability,
        note=note,
    )
