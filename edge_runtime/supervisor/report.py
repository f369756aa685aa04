"""What the server tells the person or program that started it. How it looks is the command line's affair."""

from __future__ import annotations

from typing import Protocol

from edge_runtime.log_lines import LogLine


class Report(Protocol):
    """Called on the event loop's thread; must neither block nor raise (see `output.LineWriter`)."""

    def ready(self, url: str) -> None:
        """Connections are accepted."""

    def log(self, worker: str, line: LogLine) -> None:
        """An event of a worker ended."""

    def output(self, worker: str, line: str) -> None:
        """A script, or a program it started, printed a line."""

    def worker_loaded(self, worker: str, version: str, startup_cpu_us: int) -> None:
        """A version's script was imported and serves from now on."""

    def worker_failed(self, worker: str, message: str, detail: str) -> None:
        """A worker cannot be configured, loaded or started. `detail` is a traceback or "". Not repeated while it fails
        in the same way."""

    def isolate_died(self, worker: str, pid: int, reason: str, restart_in_s: float) -> None:
        """An isolate ended without having been told to, or had to be killed."""

    def notice(self, text: str) -> None:
        """Anything else worth a line."""
