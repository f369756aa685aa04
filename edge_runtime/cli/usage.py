"""`edge usage`: what was used, read from the ledger while the server runs or not."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from bindings.instant import Instant
from edge_runtime.cli.ledger import (
    check_period,
    group_by_option,
    ledger_directory,
    read_ledger,
    say_if_empty,
    worker_option,
)
from edge_runtime.cli.options import data_option, json_option
from edge_runtime.cli.period import to_option
from edge_runtime.cli.tables import Cell, print_rows
from edge_runtime.cli.usage_now import usage_now
from edge_runtime.errors import UsageError
from edge_runtime.metering.grouping import group_rows, hour_start_ms, sum_rows
from edge_runtime.metering.ledger import ProcessCpu, ProcessRow, UsageRow, read_processes
from edge_runtime.metering.quantities import QUANTITIES

_BY_HANDLER: Final = ("worker", "kind", "handler")
_NUMBERS: Final = ("events", "cpu_us", "wall_ms")
_ACCOUNT: Final = (
    "worker", "isolate", "kernel_us", "attributed_us", "native_us", "overhead_loop_us", "overhead_threads_us",
    "unexplained_us", "unexplained_percent",
)  # fmt: skip
_EXPORTED: Final = (
    "hour", "worker", "version", "product", "owner", "kind", "handler", "events", "cpu_us", "wall_ms", *QUANTITIES,
    "errors",
)  # fmt: skip


@click.command()
@data_option
@worker_option
@click.option("--from", "from_ms", type=Instant(), default=None, help="Hours from this time on; by default all.")
@to_option
@group_by_option
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
    group_by: tuple[str, ...],
    reconcile: bool,
    export: str | None,
    as_json: bool,
) -> None:
    """Show events, CPU time, wall time and operations, by worker and handler or what --group-by says.

    CPU time is what the worker's own code used; waiting costs nothing. What a running server is about counts when it
    is answered; `--reconcile` is up to a second behind. Usage is kept by hour for 35 days, then by day (at the day's
    first hour), and removed after 400 days.
    """
    forms = {"--reconcile": reconcile, "--export": export is not None, "--group-by": bool(group_by)}
    given = [name for name, is_given in forms.items() if is_given]
    if len(given) > 1:
        raise UsageError(f"cannot show usage in two forms at once; give {' or '.join(given)}")
    if export is not None and as_json:
        raise UsageError("cannot export as JSON and as lines; give --json or --export jsonl")
    check_period("show usage", from_ms, to_ms)
    directory = ledger_directory(data_dir)
    since_ms = None if from_ms is None else hour_start_ms(from_ms)

    if reconcile:
        accounts = read_ledger(
            directory, lambda snapshot: read_processes(snapshot, worker=worker, from_ms=since_ms, to_ms=to_ms)
        )
        _print_accounts(accounts, as_json=as_json)
        return
    rows = usage_now(directory, worker, since_ms, to_ms)
    if export is not None:
        _export(rows, export)
    else:
        groups = group_rows(rows, group_by or _BY_HANDLER)
        if as_json:
            _print_json(group_by or _BY_HANDLER, groups)
        else:
            say_if_empty(rows, directory, worker)
            _print_table(group_by or _BY_HANDLER, groups)


def _print_json(group_by: Sequence[str], groups: Mapping[tuple[str, ...], UsageRow]) -> None:
    shown = [
        {**dict(zip(group_by, key, strict=True)), **_amounts(row), **row.quantities, "errors": dict(row.errors)}
        for key, row in groups.items()
    ]
    click.echo(json.dumps(shown, indent=2))


def _print_table(group_by: Sequence[str], groups: Mapping[tuple[str, ...], UsageRow]) -> None:
    rows = [_shown(dict(zip(group_by, key, strict=True)), row) for key, row in groups.items()]
    if len(rows) > 1:
        rows.append(_shown({group_by[0]: "total"}, sum_rows(list(groups.values()))))
    columns = (*group_by, *_NUMBERS, "errors", "operations")
    print_rows(columns, [{column: row.get(column, "") for column in columns} for row in rows], as_json=False)


def _amounts(row: UsageRow) -> dict[str, Cell]:
    return {"events": row.events, "cpu_us": row.cpu_us, "wall_ms": round(row.wall_ms)}


def _shown(names: Mapping[str, str], row: UsageRow) -> dict[str, Cell]:
    return {
        **names,
        **_amounts(row),
        "errors": ", ".join(f"{count} {outcome}" for outcome, count in sorted(row.errors.items())),
        "operations": ", ".join(f"{row.quantities[name]} {name}" for name in QUANTITIES if name in row.quantities),
    }


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
        "native_us": used.native_ns // 1000,
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
