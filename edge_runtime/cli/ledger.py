"""What `edge usage` and `edge bill` share: the options, and the ledger of a data directory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import trio

from edge_runtime.cli.options import data_directory
from edge_runtime.cli.usage_now import usage_now
from edge_runtime.errors import UsageError
from edge_runtime.metering.grouping import GROUPINGS
from edge_runtime.store.api import Snapshot
from edge_runtime.store.lmdb_store import open_store

T = TypeVar("T")

_STORE: Final = "store"
_FILE: Final = "data.mdb"


class Grouping(click.ParamType[tuple[str, ...]]):
    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        chosen = tuple(part.strip() for part in value.split(","))
        for part in chosen:
            if part not in GROUPINGS:
                self.fail(f"{part!r} is nothing to group by; allowed: {', '.join(GROUPINGS)}", param, ctx)
        return tuple(dict.fromkeys(chosen))


worker_option = click.option("--worker", default=None, help="This worker only.")
group_by_option = click.option(
    "--group-by",
    "group_by",
    type=Grouping(),
    default=(),
    help=f"One or several of {', '.join(GROUPINGS)}, separated by commas.",
)


def ledger_directory(data_dir: Path | None) -> Path:
    """The data directory that was named, or the one here. UsageError if it is none."""
    directory = data_directory(data_dir, Path.cwd())
    if not (directory / _STORE / _FILE).is_file():
        raise UsageError(f"no data directory at {directory}; name one with --data")
    return directory


def read_ledger(directory: Path, read: Callable[[Snapshot], list[T]]) -> list[T]:
    """What `read` finds, whether a server runs or not."""

    async def read_store() -> list[T]:
        async with open_store(directory / _STORE, readonly=True) as store:
            with store.snapshot() as snapshot:
                return read(snapshot)

    return trio.run(read_store)


def check_period(what: str, from_ms: int | None, to_ms: int | None) -> None:
    """UsageError if no hour can lie in it."""
    if from_ms is not None and to_ms is not None and to_ms <= from_ms:
        raise UsageError(
            f"cannot {what} from {instant_text(from_ms)} to {instant_text(to_ms)}: --to must be later than --from"
        )


def say_if_empty(rows: Sequence[object], directory: Path, worker: str | None) -> None:
    """Tell people, who may have mistyped, what the ledger has instead."""
    if rows:
        return
    found = {row.worker for row in usage_now(directory, None, None, None)}
    if worker is not None and worker not in found:
        there = f"it has {', '.join(sorted(found))}" if found else "it is empty"
        click.echo(f"The ledger has no usage of a worker {worker!r}; {there}.", err=True)
    elif found:
        click.echo("No usage in this period; the ledger has some of other times.", err=True)
    else:
        click.echo("The ledger is empty.", err=True)


def instant_text(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%MZ")
