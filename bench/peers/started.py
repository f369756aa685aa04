"""Processes of a system under measurement: started in a session of their own, asked for CPU time, traced, stopped."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.processes import Server

_ATTACH_S = 10.0
_ANSWER_S = 60.0
_SYNCS = "fsync,fdatasync,msync,sync_file_range,syncfs"


class Started:
    """A process and all below it."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process = process
        self._server = Server(process.pid, 0, log)
        self._log = log

    def pids(self) -> list[int]:
        return self._server.pids()

    def cpu_us(self) -> float:
        """CPU time of all processes that live, to the nanosecond."""
        return self._server.cpu_us()

    def ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Send a line of JSON on the process's input, return the one that comes back."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return self.hear()

    def hear(self) -> dict[str, Any]:
        """The next line of JSON that the process prints."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                heard: dict[str, Any] = json.loads(line)
                return heard
        raise RuntimeError(f"{self._process.args!r} ended:\n{self._log.read_text()[-4000:]}")

    def wait_answering(self, port: int) -> None:
        """Return once a connection to the port is accepted."""
        deadline = time.monotonic() + _ANSWER_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"{self._process.args!r} ended:\n{self._log.read_text()[-4000:]}")
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise RuntimeError(f"{self._process.args!r} does not listen on {port}:\n{self._log.read_text()[-4000:]}")


@contextmanager
def started(
    command: Sequence[object], *, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> Iterator[Started]:
    """Run a command until the block ends; then everything in its session is killed."""
    with tempfile.TemporaryDirectory(prefix="edge-peer-") as folder:
        log = Path(folder) / "log"
        with (
            log.open("w") as errors,
            subprocess.Popen(
                [str(part) for part in command],
                cwd=cwd,
                env={**os.environ, **(env or {})},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            ) as process,
        ):
            try:
                yield Started(process, log)
            finally:
                os.killpg(process.pid, signal.SIGKILL)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def count_syncs(pids: Sequence[int], work: Callable[[], int]) -> float | None:
    """Calls that force data to the disk, per operation of `work`; None if this machine lets nobody trace.

    Tracing slows the system down, so that fewer operations may share a sync than at full speed.
    """
    strace = shutil.which("strace")
    if strace is None:
        return None
    with tempfile.TemporaryDirectory(prefix="edge-strace-") as folder:
        calls = Path(folder) / "calls"
        command = [strace, "-f", "-qq", "-o", str(calls), "-e", f"trace={_SYNCS}"]
        for pid in pids:
            command += ["-p", str(pid)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as tracer:
            try:
                if not _attached(pids[0], tracer):
                    return None
                operations = work()
            finally:
                tracer.send_signal(signal.SIGINT)
                tracer.communicate()
        return len(re.findall(r"\b(?:fsync|fdatasync|msync|sync_file_range|syncfs)\(", calls.read_text())) / operations


def _attached(pid: int, tracer: subprocess.Popen[str]) -> bool:
    deadline = time.monotonic() + _ATTACH_S
    while time.monotonic() < deadline and tracer.poll() is None:
        status = Path(f"/proc/{pid}/status").read_text()
        if re.search(r"^TracerPid:\s+[1-9]", status, re.MULTILINE):
            time.sleep(0.3)  # its other threads and processes follow at once, and nothing tells when
            return True
        time.sleep(0.02)
    return False
