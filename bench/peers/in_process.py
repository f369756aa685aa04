"""Peers that are a library in the caller's process: DBOS, and AWS's durable execution SDK with its local runner.

There is no HTTP in their figures, and what calls them is in their process.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.peers.install import python_environment, python_version
from bench.peers.row import STEPS, STEPS_ALONE, STEPS_TOGETHER, TOGETHER, Drive, Row, System, measure
from bench.peers.started import Started, started
from bench.processes import HERE

DBOS = "DBOS on SQLite"
AWS = "AWS durable execution SDK, local runner"
_NOTE = "in process, without HTTP; the caller's CPU time is included"


def dbos_rows(scale: float = 1.0) -> Iterator[Row]:
    python = python_environment("dbos", "dbos>=3,<4")
    durability = "synced, each transaction alone: SQLite, rollback journal, synchronous FULL; a step is a transaction"
    system = System(DBOS, python_version(python, "dbos"), durability)
    yield from _rows(system, python, "dbos_app.py", int(40 * scale), int(4 * scale))


def aws_rows(scale: float = 1.0) -> Iterator[Row]:
    package = "aws-durable-execution-sdk-python"
    python = python_environment("aws", f"{package}>=3,<4", f"{package}-testing>=1.4,<2")
    # A call opens a connection and closes it; SQLite syncs its log when the last one is closed.
    durability = "commits not synced, closing the last connection is: SQLite, WAL, synchronous NORMAL; a test runner"
    system = System(AWS, python_version(python, package), durability)
    yield from _rows(system, python, "aws_app.py", int(30 * scale), int(2 * scale))


def _rows(system: System, python: Path, app_file: str, alone: int, together: int) -> Iterator[Row]:
    """`alone` instances one by one, then `together` times as many at once as with other systems."""
    command = [python, HERE / "peers/apps" / app_file]
    with tempfile.TemporaryDirectory() as folder, started([*command, folder]) as app:
        app.hear()
        yield measure(system, [app], STEPS_ALONE, _instances(app, alone, 1), _NOTE)
        yield measure(system, [app], STEPS_TOGETHER, _instances(app, together, TOGETHER), _NOTE)


def _instances(app: Started, count: int, together: int) -> Drive:
    def drive(share: int) -> tuple[int, list[float], float]:
        heard = app.ask({"count": max(1, count * share // 100), "together": together})
        return len(heard["waited_ms"]) * together * STEPS, heard["waited_ms"], heard["elapsed_s"]

    return drive
