"""What the kernel says of another process: its CPU time and memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from edge_runtime.limits import MIB
from edge_runtime.process_cpu import process_cpu_ns

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class ProcessClock:
    """Files of /proc that are kept open, so that a pid given to another process is never read by mistake."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._stat = _open(f"/proc/{pid}/stat")
        self._first_thread = _open(f"/proc/{pid}/schedstat")
        self._cpu_ns = 0
        self.threads = 0
        """How many it has, when `cpu_ns` was asked last."""
        self._loop = 0.0, 0.0
        self._threads_s: dict[int, float] = {}

    def close(self) -> None:
        for descriptor in (self._stat, self._first_thread):
            if descriptor >= 0:
                os.close(descriptor)
        self._stat = self._first_thread = -1

    def cpu_ns(self) -> int:
        """CPU time of the process so far, all threads, user and system; after its end as last seen."""
        if self._stat >= 0:
            try:
                cpu_ns = process_cpu_ns(self._pid)
                # Afterwards, since it can be read of no other process.
                fields = os.pread(self._stat, 1024, 0).rpartition(b")")[2].split()
            except OSError:
                return self._cpu_ns
            self._cpu_ns = cpu_ns
            self.threads = int(fields[17])
        return self._cpu_ns

    def cpu_ms(self) -> int:
        return self.cpu_ns() // 1_000_000

    def loop_s(self) -> float:
        """CPU time of the process's first thread so far, which runs the event loop of an isolate."""
        return self._loop_times()[0]

    def loop_busy_s(self) -> float:
        """How long that thread has run so far, or was ready to and waited for a processor."""
        return sum(self._loop_times())

    def _loop_times(self) -> tuple[float, float]:
        if self._first_thread >= 0:
            try:
                ran, waited, _ = os.pread(self._first_thread, 128, 0).split()
            except (ProcessLookupError, ValueError):
                return self._loop
            self._loop = int(ran) / 1e9, int(waited) / 1e9
        return self._loop

    def threads_s(self, threads: Iterable[int]) -> Mapping[int, float]:
        """CPU time of other threads so far; of those that have ended as seen when they were last asked for, if they
        were asked for each time since."""
        found = {}
        for thread in threads:
            try:
                with open(f"/proc/{self._pid}/task/{thread}/schedstat", "rb", buffering=0) as file:
                    found[thread] = int(file.read(128).split()[0]) / 1e9
            except (OSError, IndexError):
                if thread in self._threads_s:
                    found[thread] = self._threads_s[thread]
        self._threads_s = found
        return found

    def memory_mb(self) -> int:
        """Private writable memory, as its limit counts it; 0 once it is dead."""
        return self._pages()[5] * _PAGE // MIB

    def resident_mb(self) -> int:
        """Memory that is there and of no file; 0 once it is dead."""
        pages = self._pages()
        return (pages[1] - pages[2]) * _PAGE // MIB

    def _pages(self) -> list[int]:
        """/proc/PID/statm."""
        try:
            return list(map(int, Path(f"/proc/{self._pid}/statm").read_text().split())) or [0] * 7
        except OSError:
            return [0] * 7


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1
