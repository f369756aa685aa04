"""Is what events were charged, and what is shown as overhead, the CPU time that the kernel counts over a minute?

Sixteen connections ask for a mixed load all the time: plain requests, tasks, threads, processes, an object, KV, steps.
The kernel is asked from outside of the isolate, the rest is read from the ledger.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path

from bench.figure import Figure
from bench.instructions import isolate_of
from bench.load import exchange, request
from bench.processes import HERE, TICKS_PER_S, Server, edge_dev
from bench.stored import look
from edge_runtime.benchmark.processes import cpu_ns
from edge_runtime.limits import LEDGER_FLUSH_S
from edge_runtime.metering.ledger import ProcessCpu, read_processes

SECONDS = float(os.environ.get("EDGE_RECONCILE_S", "60"))
CONNECTIONS = 16
BURST = 400
_REST_NS = 20_000_000
PATHS = (
    "hello", "burn", "object", "kv", "tasks", "hello", "thread", "flow", "hello", "own-thread", "later", "object", "kv",
    "hello", "burn", "process",
)  # fmt: skip


def run() -> Iterator[Figure]:
    with edge_dev(HERE / "workers/mixed") as worker:
        _load(worker, itertools.cycle(PATHS), len(PATHS))
        isolate = isolate_of(worker)
        before_kernel_ns, before = _kernel_ns(worker, isolate), _account(worker.data)
        paths, requests, ends_s = itertools.cycle(PATHS), 0, time.monotonic() + SECONDS
        while time.monotonic() < ends_s:
            _load(worker, paths, BURST)
            requests += BURST
        kernel_ns, account = _kernel_ns(worker, isolate) - before_kernel_ns, _account(worker.data) - before
    note = f"{requests} requests of a mixed load in {SECONDS:.0f} s, {CONNECTIONS} at a time"
    yield Figure("mixed load, kernel's CPU time of the isolate", kernel_ns / 1e9, "s", note=note)
    parts = (
        # Without what is taken for native threads: the load has none, and they are what nothing else explains.
        ("charged to events", account.attributed_ns - account.native_ns),
        ("overhead, event loop's thread", account.loop_ns),
        ("overhead, other threads", account.threads_ns),
    )
    for part, ns in parts:
        yield Figure(f"mixed load, {part}", ns / 1e9, "s", note=f"{ns / kernel_ns:.1%}")
    unexplained_ns = kernel_ns - sum(ns for _, ns in parts)
    note = f"{unexplained_ns / 1e6:+.1f} ms, {account.native_ns / 1e6:.1f} ms of it charged as native threads"
    yield Figure("mixed load, unexplained", abs(unexplained_ns) / kernel_ns * 100, "%", bound=1, note=note)


def _load(worker: Server, paths: Iterator[str], count: int) -> None:
    exchange(worker.port, lambda: request("GET", f"/{next(paths)}"), count, CONNECTIONS)


def _kernel_ns(worker: Server, pid: int) -> int:
    """CPU time of the isolate and of processes that it has waited for, once it is at rest and has written its account
    of it. At rest it still looks at its ledger every second."""
    used_ns = 0
    while cpu_ns(pid) - used_ns > _REST_NS:
        used_ns = cpu_ns(pid)
        time.sleep(0.5)
    time.sleep(2 * LEDGER_FLUSH_S)
    used_ns = cpu_ns(pid)
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return used_ns + sum(int(fields[place]) for place in (13, 14)) * 1_000_000_000 // TICKS_PER_S


def _account(data: Path) -> ProcessCpu:
    return look(data, lambda now: sum((row.cpu for row in read_processes(now)), ProcessCpu()))
