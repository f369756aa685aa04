"""`edge usage`: what was used, read from the ledger while the server runs or not."""

from __future__ import annotations

from pathlib import Path

import click
import trio

from edge_runtime.cli.options import data_directory, data_option, json_option
from edge_runtime.cli.tables import print_rows
from edge_runtime.errors import UsageError
from edge_runtime.metering.ledger import UsageRow, read_usage, sum_by_handler
from edge_runtime.store.lmdb_store import open_store

_COLUMNS = ("worker", "kind", "handler", "events", "cpu_us", "wall_ms", "errors")


@click.command()
@data_option
@click.option("--worker", default=None, help="This worker only.")
@json_option
def usage(data_dir: Path | None, worker: str | None, as_json: bool) -> None:
    """Show events, CPU time and wall time by worker and handler.

    CPU time is what the worker's own code used; waiting costs nothing. Figures of a running server are up to a second
    old.
    """
    directory = data_directory(data_dir, Path.cwd())
    if not (directory / "store").is_dir():
        raise UsageError(f"no data directory at {directory}; name one with --data")
    rows = trio.run(_read, directory, worker)
    print_rows(
        _COLUMNS,
        [
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
        ],
        as_json=as_json,
    )


async def _read(directory: Path, worker: str | None) -> list[UsageRow]:
    async with open_store(directory / "store", readonly=True) as store:
        with store.snapshot() as snapshot:
            return sum_by_handler(read_usage(snapshot, worker=worker))
