"""Peers that are a library in the caller's process: DBOS, and AWS's durable execution SDK with its local runner.

There is no HTTP in their figures, and what calls them is in their process.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

from bench.peers.install import python_environment, python_version
from bench.peers.row import STEPS_ALONE, STEPS_TOGETHER, Drive, Row, System, measure
from bench.peers.started import Started, started
from bench.processes import HERE

DBOS = "DBOS on SQLite"
AWS = "AWS durable execution SDK, local runner"
_NOTE = "in process, without HTTP; the caller's CPU time is included"


def dbos_rows(scale: float = 1.0) -> Iterator[Row]:
    python = python_environment("dbos", "dbos>=3,<4")
    system = System(DBOS, python_version(python, "dbos"), "SQLite; several transactions a step, each synced")
    with tempfile.TemporaryDirectory() as folder, started([python, HERE / "peers/apps/dbos_app.py", folder]) as app:
        app.hear()
        yield measure(system, [app], STEPS_ALONE, _instances(app, int(40 * scale), 1), _NOTE)
        yield measure(system, [app], STEPS_TOGETHER, _instances(app, int(200 * scale), 50), _NOTE)


def aws_rows(scale: float = 1.0) -> Iterator[Row]:
    package = "aws-durable-execution-sdk-python"
    python = python_environment("aws", f"{package}>=3,<4", f"{package}-testing>=1.4,<2")
    system = System(AWS, python_version(python, package), "SQLite store of the test runner; not a production backend")
    with tempfile.TemporaryDirectory() as folder, started([python, HERE / "peers/apps/aws_app.py", folder]) as app:
        app.hear()
        yield measure(system, [app], STEPS_ALONE, _instances(app, int(30 * scale), 1), _NOTE)


def _instances(app: Started, count: int, together: int) -> Drive:
    def drive(share: int) -> tuple[int, list[float], float]:
        run = max(1, count * share // 100)
        heard = app.ask({"count": run, "together": together})
        return run * 10, heard["waited_ms"], heard["elapsed_s"]

    return drive
