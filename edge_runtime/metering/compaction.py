"""Keeping the ledger small: hours of long ago become days, isolates of long ago one account, and years are dropped."""

from __future__ import annotations

from typing import Final

from edge_runtime.limits import LEDGER_COMPACTED_ROWS, LEDGER_DAYS_KEPT, LEDGER_HOURS_KEPT_DAYS
from edge_runtime.metering.ledger import HOUR_MS, PROCESS
from edge_runtime.store import keys
from edge_runtime.store.api import Batch, Snapshot, Table
from edge_runtime.store.operations import decode_counters

_DAY_MS: Final = 24 * HOUR_MS
_ALL: Final = "all"
"""In the place of an isolate's name: all that ran that day."""


def compact(snapshot: Snapshot, worker: str, now_ms: int) -> Batch:
    """What brings a worker's old rows into their final form, at most LEDGER_COMPACTED_ROWS of them; empty if all are.

    Rows older than LEDGER_HOURS_KEPT_DAYS are added up by day, at the day's first hour (UTC); those older than
    LEDGER_DAYS_KEPT are removed. The batch is refused with Conflict if another isolate has done the same meanwhile.
    """
    batch = Batch()
    start, _ = keys.prefix_range(worker)
    dropped_ms = now_ms - LEDGER_DAYS_KEPT * _DAY_MS
    compacted_ms = (now_ms - LEDGER_HOURS_KEPT_DAYS * _DAY_MS) // _DAY_MS * _DAY_MS
    changed = 0
    for key, value in snapshot.scan(Table.LEDGER, start, keys.encode(worker, compacted_ms)):
        _, hour_ms, version, product, kind, name = keys.decode(key)
        assert isinstance(hour_ms, int), "the layout of Table.LEDGER"
        kept_name = _ALL if product == PROCESS else name
        day_ms = hour_ms // _DAY_MS * _DAY_MS
        if hour_ms >= dropped_ms and hour_ms == day_ms and name == kept_name:
            continue
        batch.expect(Table.LEDGER, key, value)
        batch.delete(Table.LEDGER, key)
        if hour_ms >= dropped_ms:
            day = keys.encode(worker, day_ms, version, product, kind, kept_name)
            batch.add_counters(Table.LEDGER, day, decode_counters(value))
        changed += 1
        if changed >= LEDGER_COMPACTED_ROWS:
            break
    return batch
