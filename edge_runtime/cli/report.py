"""What `edge dev` and `edge run` print while they serve: one line an event, coloured on a terminal."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime

import click

from edge_runtime.log_lines import LogLine


class TerminalReport:
    """`supervisor.report.Report` as lines of text. `write` must not block."""

    def __init__(
        self, write: Callable[[str], None], *, several_workers: bool, colour: bool, quiet: bool = False
    ) -> None:
        self._write = write
        self._quiet = quiet
        self._several = several_workers
        self._colour = colour

    def ready(self, url: str) -> None:
        self._line("green", f"Ready on {url}")

    def log(self, worker: str, line: LogLine) -> None:
        if self._quiet and not line.error:
            return
        who = f"{worker} " if self._several else ""
        what = f"{line.kind} {line.name}"
        cost = f"{line.cpu_us} us CPU, {line.wall_ms:.1f} ms"
        colour = None if line.outcome == "ok" else "yellow" if line.outcome == "canceled" else "red"
        outcome = "" if line.outcome == "ok" else f" {line.outcome}"
        detail = f" {line.detail}" if line.detail else ""
        self._line(colour, f"{who}{what}{detail}{outcome} ({cost})")
        if line.error:
            self._write(line.error.rstrip())

    def output(self, worker: str, line: str) -> None:
        self._write(f"{worker}: {line}" if self._several else line)

    def worker_loaded(self, worker: str, version: str, startup_cpu_us: int) -> None:
        self._line(None, f"{worker}: version {version[:12]} loaded ({startup_cpu_us / 1000:.0f} ms CPU)")

    def worker_failed(self, worker: str, message: str, detail: str) -> None:
        self._line("red", f"{worker}: {message}")
        if detail:
            self._write(detail.rstrip())

    def isolate_died(self, worker: str, pid: int, reason: str, restart_in_s: float) -> None:
        again = f"; next start in {restart_in_s:.1f} s at the earliest" if restart_in_s else ""
        self._line("red", f"{worker}: isolate {pid} ended: {reason}{again}")

    def notice(self, text: str) -> None:
        self._line(None, text)

    def _line(self, colour: str | None, text: str) -> None:
        self._write(click.style(f"[edge] {text}", fg=colour) if colour and self._colour else f"[edge] {text}")


class JsonReport:
    """The same as one JSON object a line, for programs."""

    def __init__(self, write: Callable[[str], None], *, quiet: bool = False) -> None:
        self._write = write
        self._quiet = quiet

    def ready(self, url: str) -> None:
        self._object("ready", url=url)

    def log(self, worker: str, line: LogLine) -> None:
        if self._quiet and not line.error:
            return
        at = datetime.fromtimestamp(line.at_ms / 1000, UTC).isoformat(timespec="milliseconds")
        self._object(
            "event",
            at=at,
            worker=worker,
            handler=line.name,
            event=line.kind,
            detail=line.detail,
            outcome=line.outcome,
            cpu_us=line.cpu_us,
            wall_ms=round(line.wall_ms, 3),
            error=line.error,
        )

    def output(self, worker: str, line: str) -> None:
        self._object("output", worker=worker, line=line)

    def worker_loaded(self, worker: str, version: str, startup_cpu_us: int) -> None:
        self._object("worker_loaded", worker=worker, version=version, startup_cpu_us=startup_cpu_us)

    def worker_failed(self, worker: str, message: str, detail: str) -> None:
        self._object("worker_failed", worker=worker, message=message, detail=detail)

    def isolate_died(self, worker: str, pid: int, reason: str, restart_in_s: float) -> None:
        self._object("isolate_died", worker=worker, pid=pid, reason=reason, restart_in_s=restart_in_s)

    def notice(self, text: str) -> None:
        self._object("notice", text=text)

    def _object(self, kind: str, **fields: object) -> None:
        self._write(json.dumps({"type": kind, **fields}))
