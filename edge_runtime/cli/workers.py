"""`edge workers`: what a running server serves, and its cron triggers fired by hand."""

from __future__ import annotations

import time
from pathlib import Path

import click

from edge_runtime.cli.options import data_directory, data_option, json_option
from edge_runtime.cli.tables import print_rows
from edge_runtime.supervisor import admin_client

_COLUMNS = ("name", "version", "state", "pids", "connections", "events", "actors", "cpu_ms", "failure")


@click.group()
def workers() -> None:
    """Show the workers of a running server and fire their cron triggers."""


@workers.command("list")
@data_option
@json_option
def list_workers(data_dir: Path | None, as_json: bool) -> None:
    """List workers with their version, state and processes, and the processes' CPU time."""
    found = admin_client.list_workers(data_directory(data_dir, Path.cwd()))
    rows = [{**row, "pids": " ".join(map(str, row["pids"]))} for row in found]
    print_rows(_COLUMNS, rows, as_json=as_json)


@workers.command("run-scheduled")
@click.argument("name")
@click.argument("cron")
@click.option(
    "--time", "scheduled_ms", type=int, default=None, help="Scheduled time, ms since the epoch; now if absent."
)
@data_option
def run_scheduled(name: str, cron: str, scheduled_ms: int | None, data_dir: Path | None) -> None:
    """Fire the trigger CRON of the worker NAME now; its schedule does not change."""
    due_ms = time.time_ns() // 1_000_000 if scheduled_ms is None else scheduled_ms
    admin_client.run_scheduled(data_directory(data_dir, Path.cwd()), name, cron, due_ms)
