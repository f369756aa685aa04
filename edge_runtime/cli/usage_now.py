"""The usage there is in a data directory, while its server runs or not: the ledger, and what is not yet in it."""

from __future__ import annotations

from pathlib import Path

import trio

from edge_runtime.metering.ledger import UsageRow, read_usage
from edge_runtime.metering.left_usage import unwritten
from edge_runtime.metering.tally_files import read_tallies, tally_directory
from edge_runtime.store.lmdb_store import open_store


def usage_now(directory: Path, worker: str | None, from_ms: int | None, to_ms: int | None) -> list[UsageRow]:
    """As `read_usage`; complete up to the events that are in progress."""
    return trio.run(_read, directory, worker, from_ms, to_ms)


async def _read(directory: Path, worker: str | None, from_ms: int | None, to_ms: int | None) -> list[UsageRow]:
    tallies = read_tallies(tally_directory(directory))
    async with open_store(directory / "store", readonly=True) as store:
        with store.snapshot() as snapshot:
            left = list(unwritten(tallies, snapshot))
            return read_usage(snapshot, worker=worker, from_ms=from_ms, to_ms=to_ms, unwritten=left)
