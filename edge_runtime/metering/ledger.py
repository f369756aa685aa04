"""The ledger: what every handler used, by hour, durable.

Each event is charged in memory; about once a second what has gathered is added to Table.LEDGER, in the group commits
that happen anyway. So a killed process loses the charges of its last second, and never counts one twice.

A row's key is (worker, hour, version, kind, name), the hour as milliseconds since the Unix epoch, and its value the
counters `events`, `cpu_us`, `wall_us`, `subrequests`, `storage_ops` and, for outcomes other than "ok",
`outcome:<outcome>`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from edge_runtime.errors import StoreCorrupt
from edge_runtime.promise import Promise
from edge_runtime.seams import Clock
from edge_runtime.store import keys
from edge_runtime.store.api import Batch, Snapshot, Store, Table
from edge_runtime.store.operations import decode_counters

HOUR_MS: Final = 3_600_000
_OUTCOME: Final = "outcome:"

_Charge = tuple[str, str, str]
"""Kind, name, outcome."""


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What one handler used in one hour, or in all the hours that a sum was made of (`hour_ms` is the first then).

    `errors` counts the events by outcome that were not "ok". In sums, fields that differ are "".
    """

    worker: str
    version: str
    kind: str
    name: str
    hour_ms: int
    events: int
    cpu_us: int
    wall_ms: float
    subrequests: int
    storage_ops: int
    errors: Mapping[str, int] = field(default_factory=dict)


class Ledger:
    """The charges of one isolate, which runs one version of one worker."""

    def __init__(self, store: Store, clock: Clock, worker: str, version: str) -> None:
        self._store = store
        self._clock = clock
        self._worker = worker
        self._version = version
        self._pending: dict[_Charge, list[int]] = {}

    @property
    def pending(self) -> bool:
        """Whether a flush would write anything."""
        return bool(self._pending)

    def charge(
        self,
        kind: str,
        name: str,
        cpu_us: int,
        wall_ms: float,
        outcome: str,
        subrequests: int = 0,
        storage_ops: int = 0,
    ) -> None:
        """Charge one event that has ended; to the hour in which `flush` is called next."""
        totals = self._pending.get((kind, name, outcome))
        if totals is None:
            totals = self._pending[kind, name, outcome] = [0, 0, 0, 0, 0]
        totals[0] += 1
        totals[1] += cpu_us
        totals[2] += int(wall_ms * 1000)
        totals[3] += subrequests
        totals[4] += storage_ops

    def flush(self) -> Promise[None]:
        """Queue what is pending for the next group commit; resolves when all charges so far are durable.

        Call it about once a second while there is something pending, and when the isolate drains. What a refused commit
        (StoreFull) did not write is pending again.
        """
        pending, self._pending = self._pending, {}
        hour_ms = self._clock.now_ms() // HOUR_MS * HOUR_MS
        batch = Batch()
        for (kind, name, outcome), (events, cpu_us, wall_us, subrequests, storage_ops) in pending.items():
            counters = {"events": events, "cpu_us": cpu_us, "wall_us": wall_us}
            if subrequests:
                counters["subrequests"] = subrequests
            if storage_ops:
                counters["storage_ops"] = storage_ops
            if outcome != "ok":
                counters[_OUTCOME + outcome] = events
            key = keys.encode(self._worker, hour_ms, self._version, kind, _storable(name))
            batch.add_counters(Table.LEDGER, key, counters)
        written = self._store.commit(batch)
        written.add_done_callback(lambda promise: self._restore(pending) if promise.error else None)
        return written

    def _restore(self, unwritten: dict[_Charge, list[int]]) -> None:
        for charge, totals in unwritten.items():
            later = self._pending.get(charge)
            self._pending[charge] = totals if later is None else [a + b for a, b in zip(totals, later, strict=True)]


def read_usage(
    snapshot: Snapshot, *, worker: str | None = None, from_ms: int | None = None, to_ms: int | None = None
) -> list[UsageRow]:
    """Rows of the hours that begin at or after `from_ms` and before `to_ms`, by worker, hour, version, kind, name."""
    rows = []
    for key, value in snapshot.scan(Table.LEDGER, *_range(worker, from_ms, to_ms)):
        row = _decode(key, value)
        if (from_ms is None or row.hour_ms >= from_ms) and (to_ms is None or row.hour_ms < to_ms):
            rows.append(row)
    return rows


def sum_by_handler(rows: Iterable[UsageRow]) -> list[UsageRow]:
    """One row for each worker, kind and name, over all hours and versions; ordered by these."""
    groups: dict[tuple[str, str, str], list[UsageRow]] = {}
    for row in rows:
        groups.setdefault((row.worker, row.kind, row.name), []).append(row)
    return [_sum(worker, kind, name, group) for (worker, kind, name), group in sorted(groups.items())]


def sum_by_worker(rows: Iterable[UsageRow]) -> list[UsageRow]:
    """One row for each worker, over everything; ordered by name."""
    groups: dict[str, list[UsageRow]] = {}
    for row in rows:
        groups.setdefault(row.worker, []).append(row)
    return [_sum(worker, "", "", group) for worker, group in sorted(groups.items())]


def _sum(worker: str, kind: str, name: str, rows: list[UsageRow]) -> UsageRow:
    errors: dict[str, int] = {}
    for row in rows:
        for outcome, count in row.errors.items():
            errors[outcome] = errors.get(outcome, 0) + count
    versions = {row.version for row in rows}
    return UsageRow(
        worker=worker,
        version=versions.pop() if len(versions) == 1 else "",
        kind=kind,
        name=name,
        hour_ms=min(row.hour_ms for row in rows),
        events=sum(row.events for row in rows),
        cpu_us=sum(row.cpu_us for row in rows),
        wall_ms=sum(row.wall_ms for row in rows),
        subrequests=sum(row.subrequests for row in rows),
        storage_ops=sum(row.storage_ops for row in rows),
        errors=errors,
    )


def _range(worker: str | None, from_ms: int | None, to_ms: int | None) -> tuple[bytes, bytes]:
    if worker is None:
        return keys.prefix_range()
    start, end = keys.prefix_range(worker)
    if from_ms is not None:
        start = keys.encode(worker, from_ms)
    if to_ms is not None:
        end = keys.encode(worker, to_ms)
    return start, end


def _decode(key: bytes, value: bytes) -> UsageRow:
    parts = keys.decode(key)
    match parts:
        case (str(worker), int(hour_ms), str(version), str(kind), str(name)):
            pass
        case _:
            raise StoreCorrupt(f"a ledger row has the key {parts!r}")
    counters = decode_counters(value)
    return UsageRow(
        worker=worker,
        version=version,
        kind=kind,
        name=name,
        hour_ms=hour_ms,
        events=counters.get("events", 0),
        cpu_us=counters.get("cpu_us", 0),
        wall_ms=counters.get("wall_us", 0) / 1000,
        subrequests=counters.get("subrequests", 0),
        storage_ops=counters.get("storage_ops", 0),
        errors={name[len(_OUTCOME) :]: count for name, count in counters.items() if name.startswith(_OUTCOME)},
    )


def _storable(name: str) -> str:
    """Names come from scripts, and a lone surrogate has no place in a key."""
    return name.encode("utf-8", "replace").decode()
