"""CPU time and memory of other processes, from the kernel."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.errors import UsageError
from edge_runtime.process_cpu import process_cpu_ns


def cpu_ns(pid: int) -> int:
    """CPU time of all threads of a process, ended ones included, to the nanosecond. UsageError if it has ended."""
    try:
        return process_cpu_ns(pid)
    except OSError:
        raise UsageError(f"process {pid} ended while it was measured; see what the worker printed") from None


def kernel_share(pid: int) -> tuple[int, int]:
    """Clock ticks of a process in user mode and in the kernel."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]), int(fields[12])


@dataclass(frozen=True, slots=True)
class Memory:
    peak_mb: float
    """The most that was resident at once, pages shared with other isolates included."""
    private_mb: float
    """Now, and of this process alone."""


def memory(pid: int) -> Memory:
    status = Path(f"/proc/{pid}/status").read_text()
    smaps = Path(f"/proc/{pid}/smaps_rollup").read_text()
    peak_kb = sum(int(kb) for kb in re.findall(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE))
    private_kb = sum(int(kb) for kb in re.findall(r"^Private_(?:Clean|Dirty):\s+(\d+) kB", smaps, re.MULTILINE))
    return Memory(peak_kb / 1024, private_kb / 1024)
