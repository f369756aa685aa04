"""Where does the CPU time of a request and of a durable step go: user code, runtime, kernel; and what costs most?

User code is what the ledger was charged, kernel what the isolate spent in system calls, runtime the rest. Costs are
ranked together: functions, each by itself, by a sampling profiler (py-spy), and what the kernel was entered for, by
`perf`. The first ten are the ten largest; as many again are named so that another run has them to compare with.
Without a profiler the split alone is shown, without `perf` no counts.

The profiler takes its samples by the wall's clock, so on a machine that does other things small costs move between
runs, and a function that makes system calls while it holds the interpreter is charged too much. Instructions do not
move: two versions are told apart by them.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.figure import Figure
from bench.instructions import KERNEL, SWITCHES, SYSTEM_CALLS, USER, counted, isolate_of, kernel_costs
from bench.load import send_requests
from bench.meter_overhead import INSTANCES, STEPS, WORKER, send_steps
from bench.processes import TICKS_PER_S, Server, edge_dev
from bench.stored import look
from edge_runtime.benchmark.profile import find_profiler, largest_costs
from edge_runtime.errors import UsageError
from edge_runtime.limits import LEDGER_FLUSH_S
from edge_runtime.metering.ledger import read_usage

REQUESTS = 20_000
ROUNDS = 40
SECONDS = 10
_NAMED = 20
_COUNTED = {
    USER: "instructions in user space",
    KERNEL: "instructions in the kernel",
    SYSTEM_CALLS: "system calls",
    SWITCHES: "context switches",
}


def run() -> Iterator[Figure]:
    with edge_dev(WORKER) as worker:
        yield from _split("request", worker, lambda: send_requests(worker.port, "/", REQUESTS, 8), REQUESTS)
        yield from _split("durable step", worker, lambda: _steps(worker), ROUNDS * INSTANCES * STEPS)


def _steps(worker: Server) -> None:
    for _ in range(ROUNDS):
        send_steps(worker)


def _split(what: str, worker: Server, load: Callable[[], object], operations: int) -> Iterator[Figure]:
    load()
    pid = isolate_of(worker)
    before, before_us = _times_us(pid), _charged_us(worker)
    load()
    after, after_us = _times_us(pid), _charged_us(worker)
    total, kernel = (after[i] - before[i] for i in range(2))
    user = after_us - before_us
    for part, us in (("user code", user), ("runtime", total - kernel - user), ("kernel", kernel), ("all", total)):
        note = f"{us / total:.0%}" if part != "all" else ""
        yield Figure(f"{what}, CPU of the isolate: {part}", us / operations, "us", note=note)
    counts = counted(worker, load, *_COUNTED)
    for event, count in counts.items():
        yield Figure(f"{what}, {_COUNTED[event]}", count / operations, "")
    costs = [(f"kernel: {name}", share * kernel) for name, share in kernel_costs(worker, load)]
    costs += [(function, share * (total - kernel)) for function, share in _functions(pid, load)]
    costs.sort(key=lambda cost: -cost[1])
    for rank, (name, us) in enumerate(costs[:_NAMED], start=1):
        yield Figure(f"{what}, cost: {name}", us / operations, "us", note=f"{rank}. {us / total:.1%}")


def _times_us(pid: int) -> tuple[float, float]:
    """CPU time of the process, all of it and the kernel's part; resolution 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, kernel = (int(fields[place]) / TICKS_PER_S * 1e6 for place in (11, 12))
    return user + kernel, kernel


def _charged_us(worker: Server) -> int:
    time.sleep(2 * LEDGER_FLUSH_S)
    return look(worker.data, lambda now: sum(row.cpu_us for row in read_usage(now) if row.kind != "startup"))


def _functions(pid: int, load: Callable[[], object]) -> list[tuple[str, float]]:
    """(function, its own share of the time in user space), the largest first."""
    try:
        profiler = find_profiler()
    except UsageError as missing:
        print(f"  {missing}", file=sys.stderr)
        return []
    over = threading.Event()

    def keep_busy() -> None:
        while not over.is_set():
            load()

    busy = threading.Thread(target=keep_busy)
    busy.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            stacks = os.path.join(folder, "stacks")
            command = [profiler, "record", "--pid", str(pid), "--duration", str(SECONDS), "--rate", "500", "--gil"]
            command += ["--format", "raw", "--function", "--output", stacks]
            subprocess.run(command, check=True, capture_output=True)
            found = largest_costs(Path(stacks).read_text().splitlines(), _NAMED)
    finally:
        over.set()
        busy.join()
    # Without the line, which another run may have elsewhere.
    return [(re.sub(r":\d+\)$", ")", cost.function), cost.own) for cost in found]
