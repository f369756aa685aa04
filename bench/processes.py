"""Servers under measurement: started, asked for their CPU time and memory, stopped."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.benchmark.processes import cpu_ns
from edge_runtime.errors import UsageError

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Server:
    pid: int
    port: int
    data: Path

    def pids(self) -> list[int]:
        """Every process of the server."""
        parents = {pid: int(fields[1]) for pid in _all_pids() if (fields := _stat(pid))}
        found = [self.pid]
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid]
        return found

    def cpu_us(self) -> float:
        """CPU time of all processes that live, user and system, to the nanosecond."""
        total_ns = 0
        for pid in self.pids():
            try:
                total_ns += cpu_ns(pid)
            except UsageError:
                continue  # it ended between the list and the look
        return total_ns / 1000


def _all_pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat after the name, from the state on."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def private_mb(pid: int) -> float:
    """Memory that the process shares with no other. Pages of files that are mapped to be shared (the store) are not
    counted: they are the kernel's cache."""
    text = Path(f"/proc/{pid}/smaps").read_text()
    mappings = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", text, flags=re.MULTILINE)
    own = (mapping for mapping in mappings if not re.match(r"\S+ ...s", mapping))
    found = (kb for mapping in own for kb in re.findall(r"^Private_(?:Clean|Dirty): +(\d+) kB", mapping, re.MULTILINE))
    return sum(map(int, found)) / 1024


def anonymous_mb(pid: int) -> float:
    """Memory that is no file's: without the pages of the store that a process has looked at, which are the kernel's to
    drop."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(kb) for kb in re.findall(r"^Anonymous: +(\d+) kB", text, re.MULTILINE)) / 1024


@contextmanager
def server(command: Sequence[object], data: Path) -> Iterator[Server]:
    """Start a command that prints a line ending in the URL it serves."""
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(
            [str(part) for part in command], stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
        ) as process,
    ):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if match := re.search(r"http://[^:/\s]+:(\d+)", line):
                    yield Server(process.pid, int(match[1]), data)
                    return
            log.seek(0)
            raise RuntimeError(f"{command} ended without serving:\n{log.read()}")
        finally:
            os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def edge_dev(folder: Path, *options: object) -> Iterator[Server]:
    """`edge dev` on a fresh data directory, its log lines thrown away."""
    with tempfile.TemporaryDirectory() as data:
        command = [
            sys.executable,
            "-m",
            "edge_runtime",
            "dev",
            folder,
            "--port",
            0,
            "--data",
            data,
            "--quiet",
            *options,
        ]
        with server(command, Path(data)) as started:
            yield started
