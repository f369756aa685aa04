"""`edge usage`: what was used, read from the ledger while the server runs or not."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
import trio

from edge_runtime.cli.options import data_directory, data_option, json_option
from edge_runtime.cli.period import Instant, to_option
from edge_runtime.cli.tables import Cell, print_rows
from edge_runtime.cli.usage_now import usage_now
from edge_runtime.errors import UsageError
from edge_runtime.metering.grouping import sum_by_handler
from edge_runtime.metering.ledger import (
    ProcessCpu,
    ProcessRow,
    UsageRow,
    read_processes,
)
from edge_runtime.metering.quantities import QUANTITIES
from edge_runtime.store.lmdb_store import open_store

_COLUMNS: Final = ("worker", "kind", "handler", "events", "cpu_us", "wall_ms", "errors")
_ACCOUNT: Final = (
    "worker", "isolate", "kernel_us", "attributed_us", "overhead_loop_us", "overhead_threads_us", "unexplained_us",
    "unexplained_percent",
)  # fmt: skip
_EXPORTED: Final = (
    "hour", "worker", "version", "product", "owner", "kind", "handler", "events", "cpu_us", "wall_ms", *QUANTITIES,
    "errors",
)  # fmt: skip


@click.command()
@data_option
@click.option("--worker", default=None, help="This worker only.")
@click.option("--from", "from_ms", type=Instant(), default=None, help="Hours from this time on; by default all.")
@to_option
@click.option(
    "--reconcile", is_flag=True, help="Compare what was charged, and the overhead, with the kernel's CPU time."
)
@click.option(
    "--export",
    type=click.Choice(["jsonl", "csv"]),
    default=None,
    help="Print every row of the ledger, by hour, as lines of JSON or as CSV.",
)
@json_option
def usage(
    data_dir: Path | None,
    worker: str | None,
    from_ms: int | None,
    to_ms: int | None,
    reconcile: bool,
    export: str | None,
    as_json: bool,
) -> None:
    """Show events, CPU time and wall time by worker and handler.

    CPU time is what the worker's own code used; waiting costs nothing. What a running server is about counts when it
    is answered; `--reconcile` is up to a second behind.
    """
    if reconcile and export is not None:
        raise UsageError("cannot reconcile and export at once; give --reconcile or --export")
    directory = data_directory(data_dir, Path.cwd())
    if not (directory / "store").is_dir():
        raise UsageError(f"no data directory at {directory}; name one with --data")

    if reconcile:
        accounts = trio.run(_read_accounts, directory, worker, from_ms, to_ms)
        _print_accounts(accounts, as_json=as_json)
        return
    rows = usage_now(directory, worker, from_ms, to_ms)
    if export is not None:
        _export(rows, export)
    else:
        _print_usage(sum_by_handler(rows), as_json=as_json)


def _print_usage(rows: Sequence[UsageRow], *, as_json: bool) -> None:
    shown: list[dict[str, Cell]] = [
        {
            "worker": row.worker,
            "kind": row.kind,
            "handler": row.name,
            "events": row.events,
            "cpu_us": row.cpu_us,
            "wall_ms": round(row.wall_ms),
            "errors": sum(row.errors.values()),
        }
        for row in rows
    ]
    print_rows(_COLUMNS, shown, as_json=as_json)


def _print_accounts(rows: Sequence[ProcessRow], *, as_json: bool) -> None:
    """One line for each isolate, over the hours of its life, and one for all of them."""
    accounts: dict[tuple[str, str], ProcessCpu] = {}
    for row in rows:
        key = (row.worker, row.isolate)
        accounts[key] = accounts.get(key, ProcessCpu()) + row.cpu
    shown = [_account(worker, isolate, used) for (worker, isolate), used in sorted(accounts.items())]
    if len(shown) > 1:
        shown.append(_account("all", "", sum(accounts.values(), ProcessCpu())))
    print_rows(_ACCOUNT, shown, as_json=as_json)


def _account(worker: str, isolate: str, used: ProcessCpu) -> dict[str, Cell]:
    return {
        "worker": worker,
        "isolate": isolate,
        "kernel_us": used.kernel_ns // 1000,
        "attributed_us": used.attributed_ns // 1000,
        "overhead_loop_us": used.loop_ns // 1000,
        "overhead_threads_us": used.threads_ns // 1000,
        "unexplained_us": used.unexplained_ns // 1000,
        "unexplained_percent": round(100 * used.unexplained_ns / used.kernel_ns, 2) if used.kernel_ns else 0.0,
    }


def _export(rows: Sequence[UsageRow], form: str) -> None:
    exported = (_exported(row) for row in rows)
    if form == "jsonl":
        for record in exported:
            click.echo(json.dumps(record))
        return
    writer = csv.DictWriter(sys.stdout, _EXPORTED)
    writer.writeheader()
    for record in exported:
        errors = ";".join(f"{outcome}={count}" for outcome, count in record["errors"].items())
        writer.writerow({**record, "errors": errors})


def _exported(row: UsageRow) -> dict[str, Any]:
    return {
        "hour": datetime.fromtimestamp(row.hour_ms / 1000, UTC).isoformat(),
        "worker": row.worker,
        "version": row.version,
        "product": row.product,
        "owner": row.owner,
        "kind": row.kind,
        "handler": row.name,
        "events": row.events,
        "cpu_us": row.cpu_us,
        "wall_ms": round(row.wall_ms, 3),
        **{name: row.quantities.get(name, 0) for name in QUANTITIES},
        "errors": dict(row.errors),
    }


async def _read_accounts(
    directory: Path, worker: str | None, from_ms: int | None, to_ms: int | None
) -> list[ProcessRow]:
    async with open_store(directory / "store", readonly=True) as store:
        with store.snapshot() as snapshot:
            return read_processes(snapshot, worker=worker, from_ms=from_ms, to_ms=to_ms)
