"""Processes of a peer: started in a session of their own, talked to, asked for their CPU time, stopped."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.processes import Server

_ANSWER_S = 60.0


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
