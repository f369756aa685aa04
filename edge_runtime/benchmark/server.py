"""A server of its own for a worker under measurement: started on loopback with an empty data directory, and heard."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from urllib.parse import urlsplit

import trio

from edge_runtime.benchmark.subjects import Subject
from edge_runtime.errors import UsageError
from edge_runtime.supervisor import admin_client

_START_S: Final = 120.0
_EVENTS_S: Final = 30.0
_STOP_S: Final = 15.0
_LINES_SHOWN: Final = 20


@dataclass(frozen=True, slots=True)
class Event:
    """One event as the server's log has it."""

    kind: str
    handler: str
    cpu_us: int
    wall_ms: float
    outcome: str
    error: str


class BenchServer:
    """`edge run` in a session of its own, which ends when this process does; a thread takes in what it says.

    Start it from a thread that lives as long as it is needed.
    """

    def __init__(self, subject: Subject, data: Path, environment: str | None) -> None:
        self.subject = subject
        self.data = data
        self.port = 0
        self.events: list[Event] = []
        self._logged: Counter[str] = Counter()
        self._said: list[str] = []
        self._changed = threading.Condition()
        self._ended = False
        command = [sys.executable, "-m", "edge_runtime.benchmark.attached", str(os.getpid())]
        command += ["run", str(subject.folder), "--port", "0", "--json"]
        command += ["--data", str(data), *(() if environment is None else ("--env", environment))]
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Of the supervisor."""
        return self._process.pid

    def isolates(self) -> tuple[int, ...]:
        """Process ids of the worker's isolates; they are there once a request was answered. Blocking."""
        (worker,) = admin_client.list_workers(self.data)
        return tuple(worker["pids"])

    def wait_ready(self) -> None:
        """Return once it listens. Blocking. Raises UsageError with what it said if it ends instead."""
        if not self._wait(lambda: self.port != 0, _START_S):
            raise UsageError(f"cannot measure {self.subject.label}: the server does not start\n{self.complaints()}")

    def wait_events(self, kind: str, count: int) -> None:
        """Return once `count` events of a kind have been logged since the start. Blocking."""
        if not self._wait(lambda: self._logged[kind] >= count, _EVENTS_S):
            raise UsageError(
                f"cannot measure {self.subject.label}: {self._logged[kind]} of {count} events of kind {kind} were "
                f"logged within {_EVENTS_S:.0f} s\n{self.complaints()}"
            )

    def stop(self) -> None:
        """End the server and hear it out. Blocking; may be called again."""
        for number, wait_s in ((signal.SIGINT, _STOP_S), (signal.SIGKILL, None)):
            if self._process.poll() is None:
                os.killpg(self._process.pid, number)
            try:
                self._process.wait(wait_s)
                break
            except subprocess.TimeoutExpired:
                continue
        self._reader.join(_STOP_S)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _wait(self, reached: Callable[[], bool], timeout_s: float) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._ended or reached(), timeout_s)
            return reached()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self._take(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _take(self, line: str) -> None:
        try:
            said = json.loads(line)
        except ValueError:
            self._said.append(line)
            return
        match said:
            case {"type": "event"}:
                self._logged[said["event"]] += 1
                self.events.append(
                    Event(
                        said["event"], said["handler"], said["cpu_us"], said["wall_ms"], said["outcome"], said["error"]
                    )
                )
            case {"type": "ready", "url": url}:
                self.port = urlsplit(url).port or 0
            case {"type": "worker_loaded"}:
                pass  # no complaint
            case {"type": "worker_failed", "message": str(message), "detail": str(detail)}:
                self._said += [message, *detail.splitlines()]
            case _:
                self._said.append(line)

    def complaints(self) -> str:
        """The last of what server and worker said besides logging events, or the last event's traceback."""
        failed = next((event.error for event in reversed(self.events) if event.error), "")
        return "\n".join([*self._said, *failed.splitlines()][-_LINES_SHOWN:])


@asynccontextmanager
async def bench_server(subject: Subject, environment: str | None) -> AsyncIterator[BenchServer]:
    """A server that has been started; see `BenchServer.wait_ready`."""
    with TemporaryDirectory(prefix="edge-bench-") as data:
        server = BenchServer(subject, Path(data), environment)
        try:
            yield server
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(server.stop)
