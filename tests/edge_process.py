"""A real `edge` server in a child process, as a person would start it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
from click.testing import CliRunner

from edge_runtime.cli.main import edge

APPS = Path(__file__).parent.parent / "apps"
EDGE = [sys.executable, "-m", "edge_runtime"]
PATIENCE_S = 90
"""How long tests wait for what must happen: on a machine that is busy with something else it takes its time."""


def plain_client(url: str, timeout_s: float = PATIENCE_S, **options: Any) -> httpx2.Client:
    """A client of a server on this machine. It reads no certificates, which would take 50 ms of CPU time each time."""
    return httpx2.Client(base_url=url, timeout=timeout_s, trust_env=False, verify=False, **options)


def edge_here(*arguments: object) -> str:
    """What an `edge` command prints, run in this process: it takes a tenth of the time of one of its own."""
    result = CliRunner().invoke(edge, [str(argument) for argument in arguments])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def replace_text(path: Path, text: str) -> None:
    """Change a file as editors do. One that is cut and then written may be read while it is empty."""
    written = path.with_name(f"{path.name}.tmp")
    written.write_text(text)
    written.replace(path)


class EdgeProcess:
    """`edge dev DIR` or `edge run`, in a session of its own as a terminal would give it."""

    def __init__(self, *arguments: object, env: dict[str, str] | None = None) -> None:
        self.arguments = [str(argument) for argument in arguments]
        self.process = subprocess.Popen(
            [*EDGE, *self.arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env={**os.environ, **(env or {})},
        )
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.url = ""

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, pattern: str, timeout_s: float = PATIENCE_S) -> re.Match[str]:
        """The first line of output, from the start, that matches."""
        deadline = time.monotonic() + timeout_s
        seen = 0
        with self._changed:
            while True:
                for line in self.lines[seen:]:
                    if match := re.search(pattern, line):
                        return match
                seen = len(self.lines)
                left_s = deadline - time.monotonic()
                if self._ended or left_s <= 0:
                    raise AssertionError(f"no line matches {pattern!r} in:\n{self.output}")
                self._changed.wait(left_s)

    def wait_ready(self, timeout_s: float = PATIENCE_S) -> EdgeProcess:
        self.url = self.wait_for(r"Ready on (http://\S+)", timeout_s)[1]
        return self

    @property
    def port(self) -> int:
        port = urlsplit(self.url).port
        assert port is not None
        return port

    def client(self, timeout_s: float = PATIENCE_S) -> httpx2.Client:
        return plain_client(self.url, timeout_s)

    def family(self) -> list[int]:
        """Process ids of the server and everything below it."""
        return descendants(self.process.pid)

    def interrupt(self, timeout_s: float = PATIENCE_S) -> int:
        """Ctrl-C, as the terminal sends it: to the whole foreground group. Returns the exit code."""
        os.killpg(self.process.pid, signal.SIGINT)
        code = self.process.wait(timeout_s)
        self._reader.join(timeout_s)
        return code

    def kill(self) -> None:
        """SIGKILL for the whole family at once, as when the machine loses power."""
        if self.process.poll() is None:
            kill_at_once(self.family())
        self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def __enter__(self) -> EdgeProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def kill_at_once(pids: list[int]) -> None:
    """SIGKILL, and none of them sees another's end: they are stopped first."""
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass  # it had ended, or its parent's death took it along


def descendants(pid: int) -> list[int]:
    """A process and all below it, zombies left out."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] != "Z":
                parents[int(entry.name)] = int(fields[1])
    found = [pid]
    for known in found:
        found += [child for child, parent in parents.items() if parent == known]
    return found


def eventually(check, timeout_s: float = PATIENCE_S, every_s: float = 0.05):
    """The first true result of `check()`; AssertionError with the last one when time is over."""
    deadline = time.monotonic() + timeout_s
    while True:
        result = check()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"still {result!r} after {timeout_s} s")
        time.sleep(every_s)
