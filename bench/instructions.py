"""What `perf` counts and samples of an isolate: steadier than CPU time while the machine does other things.

Where there is no `perf`, or it may not look, nothing is found.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from bench.processes import Server

USER = "instructions:u"
KERNEL = "instructions:k"
SYSTEM_CALLS = "raw_syscalls:sys_enter"
SWITCHES = "context-switches"
_ATTACHED_S = 0.5
_CYCLES_PER_SAMPLE = 50_021
_SYSTEM_CALL = re.compile(r"\b__(?:x64|arm64)_sys_(\w+)")
_INTERRUPT = re.compile(r"\basm_(?:common_interrupt|sysvec_\w+)|\bel[01]h?_\d*_?64?_irq")
_FAULT = re.compile(r"\basm_exc_page_fault|\bdo_mem_abort")


def isolate_of(server: Server) -> int:
    """The pid of the server's one isolate."""
    for pid in reversed(server.pids()):
        if Path(f"/proc/{pid}/comm").read_text().strip() == "edge-isolate":
            return pid
    raise RuntimeError("the server has no isolate; send it a request first")


def cycles(server: Server, load: Callable[[], object]) -> int | None:
    """Those of the processor that the isolate takes while `load` runs, user and kernel; None where `perf` cannot count
    them."""
    found = counted(server, load, "cycles:u", "cycles:k")
    return sum(found.values()) if len(found) == 2 else None


def counted(server: Server, load: Callable[[], object], *events: str) -> dict[str, int]:
    """How often each event happened in the isolate while `load` ran; without those that `perf` cannot count."""
    if shutil.which("perf") is None:
        return {}
    command = ["perf", "stat", "-x,", "-e", ",".join(events), "-p", str(isolate_of(server))]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as perf:
        time.sleep(_ATTACHED_S)
        load()
        perf.send_signal(signal.SIGINT)
        assert perf.stderr is not None
        rows = [line.split(",") for line in perf.stderr.read().splitlines()]
    return {row[2]: int(row[0]) for row in rows if len(row) > 2 and row[2] in events and row[0].isdigit()}


def kernel_costs(server: Server, load: Callable[[], object]) -> list[tuple[str, float]]:
    """What the kernel does for the isolate while `load` runs: (system call, its share of the kernel's time), the
    largest first."""
    if shutil.which("perf") is None:
        return []
    with tempfile.TemporaryDirectory() as folder:
        data = f"{folder}/perf.data"
        command = ["perf", "record", "-q", "-g", "-e", "cycles:k", "-c", str(_CYCLES_PER_SAMPLE)]
        with subprocess.Popen(
            [*command, "-p", str(isolate_of(server)), "-o", data], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as perf:
            time.sleep(_ATTACHED_S)
            load()
            perf.send_signal(signal.SIGINT)
        script = subprocess.run(
            ["perf", "script", "-i", data, "-F", "ip,sym"], capture_output=True, text=True, check=False
        )
    stacks = [stack for stack in script.stdout.split("\n\n") if stack.strip()]
    found = Counter(map(_occasion, stacks))
    return [(name, count / len(stacks)) for name, count in found.most_common()]


def _occasion(stack: str) -> str:
    """What the kernel was entered for."""
    if call := _SYSTEM_CALL.search(stack):
        return call[1]
    if _FAULT.search(stack):
        return "page faults"
    return "interrupts" if _INTERRUPT.search(stack) else "other"
