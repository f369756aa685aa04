"""What tallies hold that the ledger does not have: of isolates that were killed, and of those that live."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from edge_runtime.metering.ledger import add_portion, portions_written, stored_row
from edge_runtime.metering.tally import LeftRows
from edge_runtime.metering.tally_files import LeftTally, left_files, left_tally
from edge_runtime.store.api import Batch, Snapshot, Store


def unwritten(tallies: Iterable[LeftTally], snapshot: Snapshot) -> Iterator[tuple[bytes, dict[str, int]]]:
    """What is to be added to rows of Table.LEDGER as the snapshot has them: keys and counters."""
    for left in tallies:
        for segment in _unwritten_segments(left, snapshot):
            for charge, counters in segment.rows:
                yield stored_row(left.owner, charge, counters, segment.begun_ms)


async def collect_left(directory: Path, own: str, store: Store) -> None:
    """Add to the ledger what isolates that are dead have charged, and remove their files. `own`: the isolate that does
    it, whose file is left alone. A file that somebody else is at is passed over."""
    for path in left_files(directory, own):
        with left_tally(path) as left:
            if left is None:
                continue
            batch = Batch()
            with store.snapshot() as snapshot:
                segments = _unwritten_segments(left, snapshot)
            for portion in sorted({segment.portion for segment in segments}):
                of_it = [segment for segment in segments if segment.portion == portion]
                rows = (row for segment in of_it for row in segment.rows)
                add_portion(batch, left.owner, rows, of_it[0].begun_ms)
            await store.commit(batch)
            path.unlink(missing_ok=True)


def _unwritten_segments(left: LeftTally, snapshot: Snapshot) -> list[LeftRows]:
    written = portions_written(snapshot, left.owner)
    return [segment for segment in left.segments if segment.portion > written]
