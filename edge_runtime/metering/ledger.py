"""The ledger: what every handler used, by hour, durable.

Each event is charged in memory when it ends. What has gathered is added to Table.LEDGER in the group commits that
happen anyway, every LEDGER_RIDE_S at most, and in one of its own after LEDGER_FLUSH_S without. An event that commits
something ends after that commit, so a killed process loses what had not ended, and what has ended since the last commit
that took charges along: within LEDGER_RIDE_S and a commit while others follow, within LEDGER_FLUSH_S if none does. What
was written is there, and no event is counted twice.

A row's key is (worker, hour, version, product, kind, name), the hour as milliseconds since the Unix epoch, and its
value the counters `events`, `cpu_ns`, `wall_us`, those of `metering.quantities` and, for outcomes other than "ok",
`outcome:<outcome>`. What is zero is not stored. Rows of the product "process" are the isolates' own accounts, and their
counters are the fields of `ProcessCpu`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from edge_runtime.errors import StoreCorrupt
from edge_runtime.promise import Promise
from edge_runtime.seams import Clock
from edge_runtime.store import keys
from edge_runtime.store.api import Batch, Snapshot, Store, Table
from edge_runtime.store.operations import decode_counters

HOUR_MS: Final = 3_600_000
NO_QUANTITIES: Final[Mapping[str, int]] = {}
_OUTCOME: Final = "outcome:"
PROCESS: Final = "process"
"""In the place of a row's product and kind: the row is the account of an isolate, named by it."""
_OWN: Final = frozenset(("events", "cpu_ns", "wall_us"))
"""Counters of a row that are fields of `UsageRow`."""

_Charge = tuple[str, str, str, str]
"""Product, kind, name, outcome."""


class Product(StrEnum):
    """What of a worker an event ran in. Values are stored."""

    WORKER = "worker"
    """A handler or entrypoint: fetch, scheduled, calls from other workers, messages of sockets it accepted itself."""
    OBJECT = "object"
    WORKFLOW = "workflow"


@dataclass(frozen=True, slots=True)
class ProcessCpu:
    """CPU time of isolates, in nanoseconds."""

    kernel_ns: int = 0
    """As the kernel counts it: the process, and the processes that its script started."""
    attributed_ns: int = 0
    """What was charged to user code."""
    loop_ns: int = 0
    """Overhead on the event loop's thread: HTTP, bindings, the loop itself, start and end."""
    threads_ns: int = 0
    """Overhead in other threads: commits, and the handling of worker threads."""

    def __sub__(self, other: ProcessCpu) -> ProcessCpu:
        return ProcessCpu(*(getattr(self, name) - getattr(other, name) for name in _PROCESS_COUNTERS))

    def __add__(self, other: ProcessCpu) -> ProcessCpu:
        return ProcessCpu(*(getattr(self, name) + getattr(other, name) for name in _PROCESS_COUNTERS))

    @property
    def unexplained_ns(self) -> int:
        """What the kernel counted and nothing here did."""
        return self.kernel_ns - self.attributed_ns - self.loop_ns - self.threads_ns


_PROCESS_COUNTERS: Final = ("kernel_ns", "attributed_ns", "loop_ns", "threads_ns")


@dataclass(frozen=True, slots=True)
class ProcessRow:
    """What one isolate used in one hour. `isolate` is when it began (ms since the epoch) and its pid."""

    worker: str
    version: str
    isolate: str
    hour_ms: int
    cpu: ProcessCpu


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What one handler used in one hour, or in all the hours that a sum was made of (`hour_ms` is the first then).

    `kind` is the event's (`event.EventKind`), `name` the handler as the log shows it: `Default.fetch`,
    `Counter.increment`, `order-flow` (the run of a workflow), `order-flow/charge` (a step). `quantities` are those of
    `metering.quantities` that are not zero; `errors` counts the events by outcome that were not "ok". In sums, fields
    that differ are "".
    """

    worker: str
    version: str
    product: str
    kind: str
    name: str
    hour_ms: int
    events: int
    cpu_us: int
    wall_ms: float
    quantities: Mapping[str, int] = field(default_factory=dict)
    errors: Mapping[str, int] = field(default_factory=dict)

    @property
    def owner(self) -> str:
        """The class of an object, the name of a workflow; "" for what is the worker's own."""
        match self.product:
            case Product.OBJECT:
                return self.name.partition(".")[0]
            case Product.WORKFLOW:
                return self.name.partition("/")[0]
            case _:
                return ""


class _Totals:
    __slots__ = ("cpu_ns", "events", "quantities", "wall_us")

    def __init__(self) -> None:
        self.events = 0
        self.cpu_ns = 0
        self.wall_us = 0
        self.quantities: dict[str, int] = {}

    def add(self, events: int, cpu_ns: int, wall_us: int, quantities: Mapping[str, int]) -> None:
        self.events += events
        self.cpu_ns += cpu_ns
        self.wall_us += wall_us
        if quantities:
            mine = self.quantities
            for name, amount in quantities.items():
                mine[name] = mine.get(name, 0) + amount

    def counters(self, outcome: str) -> dict[str, int]:
        counters = {"events": self.events, "cpu_ns": self.cpu_ns, "wall_us": self.wall_us, **self.quantities}
        if outcome != "ok":
            counters[_OUTCOME + outcome] = self.events
        return {name: amount for name, amount in counters.items() if amount}


class Ledger:
    """The charges of one isolate, which runs one version of one worker."""

    def __init__(self, store: Store, clock: Clock, worker: str, version: str) -> None:
        self._store = store
        self._clock = clock
        self._worker = worker
        self._version = version
        self._pending: dict[_Charge, _Totals] = {}
        self._processes: dict[str, ProcessCpu] = {}

    @property
    def pending(self) -> bool:
        """Whether there are charges that a flush would write."""
        return bool(self._pending)

    def charge_process(self, isolate: str, used: ProcessCpu) -> None:
        """Add to the account of an isolate; written with the charges."""
        self._processes[isolate] = self._processes.get(isolate, ProcessCpu()) + used

    def charge(
        self,
        kind: str,
        name: str,
        cpu_ns: int,
        wall_ms: float,
        outcome: str,
        quantities: Mapping[str, int] = NO_QUANTITIES,
        *,
        product: str = Product.WORKER,
        events: int = 1,
    ) -> None:
        """Charge one event that has ended; to the hour in which `flush` is called next.

        With `events=0` the charge belongs to an event that was or will be counted by another call.
        """
        totals = self._pending.get((product, kind, name, outcome))
        if totals is None:
            totals = self._pending[product, kind, name, outcome] = _Totals()
        totals.add(events, cpu_ns, int(wall_ms * 1000), quantities)

    def flush(self) -> Promise[None]:
        """Queue what is pending for the next group commit; resolves when all charges so far are durable.

        Call it about once a second while there is something pending, and when the isolate drains. What a refused commit
        (StoreFull) did not write is pending again.
        """
        pending, self._pending = self._pending, {}
        processes, self._processes = self._processes, {}
        hour_ms = self._clock.now_ms() // HOUR_MS * HOUR_MS
        batch = Batch()
        for (product, kind, name, outcome), totals in pending.items():
            key = keys.encode(self._worker, hour_ms, self._version, product, kind, _storable(name))
            batch.add_counters(Table.LEDGER, key, totals.counters(outcome))
        for isolate, used in processes.items():
            key = keys.encode(self._worker, hour_ms, self._version, PROCESS, PROCESS, isolate)
            counters = {name: getattr(used, name) for name in _PROCESS_COUNTERS}
            batch.add_counters(Table.LEDGER, key, {name: amount for name, amount in counters.items() if amount})
        written = self._store.commit(batch)
        written.add_done_callback(lambda promise: self._restore(pending, processes) if promise.error else None)
        return written

    def _restore(self, unwritten: dict[_Charge, _Totals], processes: dict[str, ProcessCpu]) -> None:
        for isolate, used in processes.items():
            self.charge_process(isolate, used)
        for charge, totals in unwritten.items():
            later = self._pending.get(charge)
            if later is not None:
                totals.add(later.events, later.cpu_ns, later.wall_us, later.quantities)
            self._pending[charge] = totals


def read_usage(
    snapshot: Snapshot, *, worker: str | None = None, from_ms: int | None = None, to_ms: int | None = None
) -> list[UsageRow]:
    """Rows of the hours that begin at or after `from_ms` and before `to_ms`, by worker, hour, version, product, kind
    and name."""
    rows = (_decode(key, value) for key, value in snapshot.scan(Table.LEDGER, *_range(worker, from_ms, to_ms)))
    return [row for row in rows if isinstance(row, UsageRow) and _within(row.hour_ms, from_ms, to_ms)]


def read_processes(
    snapshot: Snapshot, *, worker: str | None = None, from_ms: int | None = None, to_ms: int | None = None
) -> list[ProcessRow]:
    """As `read_usage`, of the isolates' own accounts."""
    rows = (_decode(key, value) for key, value in snapshot.scan(Table.LEDGER, *_range(worker, from_ms, to_ms)))
    return [row for row in rows if isinstance(row, ProcessRow) and _within(row.hour_ms, from_ms, to_ms)]


def sum_by_handler(rows: Iterable[UsageRow]) -> list[UsageRow]:
    """One row for each worker, product, kind and name, over all hours and versions; ordered by these."""
    groups: dict[tuple[str, str, str, str], list[UsageRow]] = {}
    for row in rows:
        groups.setdefault((row.worker, row.product, row.kind, row.name), []).append(row)
    return [sum_rows(group) for _, group in sorted(groups.items())]


def sum_by_worker(rows: Iterable[UsageRow]) -> list[UsageRow]:
    """One row for each worker, over everything; ordered by name."""
    groups: dict[str, list[UsageRow]] = {}
    for row in rows:
        groups.setdefault(row.worker, []).append(row)
    return [sum_rows(group) for _, group in sorted(groups.items())]


def sum_rows(rows: list[UsageRow]) -> UsageRow:
    """One row over all of them, of which there must be one at least."""
    quantities: dict[str, int] = {}
    errors: dict[str, int] = {}
    for row in rows:
        for into, amounts in ((quantities, row.quantities), (errors, row.errors)):
            for name, amount in amounts.items():
                into[name] = into.get(name, 0) + amount
    return UsageRow(
        worker=_same(row.worker for row in rows),
        version=_same(row.version for row in rows),
        product=_same(row.product for row in rows),
        kind=_same(row.kind for row in rows),
        name=_same(row.name for row in rows),
        hour_ms=min(row.hour_ms for row in rows),
        events=sum(row.events for row in rows),
        cpu_us=sum(row.cpu_us for row in rows),
        wall_ms=sum(row.wall_ms for row in rows),
        quantities=quantities,
        errors=errors,
    )


def _same(values: Iterable[str]) -> str:
    different = set(values)
    return different.pop() if len(different) == 1 else ""


def _within(hour_ms: int, from_ms: int | None, to_ms: int | None) -> bool:
    return (from_ms is None or hour_ms >= from_ms) and (to_ms is None or hour_ms < to_ms)


def _range(worker: str | None, from_ms: int | None, to_ms: int | None) -> tuple[bytes, bytes]:
    if worker is None:
        return keys.prefix_range()
    start, end = keys.prefix_range(worker)
    if from_ms is not None:
        start = keys.encode(worker, from_ms)
    if to_ms is not None:
        end = keys.encode(worker, to_ms)
    return start, end


def _decode(key: bytes, value: bytes) -> UsageRow | ProcessRow:
    parts = keys.decode(key)
    match parts:
        case (str(worker), int(hour_ms), str(version), str(product), str(kind), str(name)):
            pass
        case _:
            raise StoreCorrupt(f"a ledger row has the key {parts!r}")
    counters = decode_counters(value)
    if product == PROCESS:
        used = ProcessCpu(*(counters.get(counter, 0) for counter in _PROCESS_COUNTERS))
        return ProcessRow(worker, version, name, hour_ms, used)
    return UsageRow(
        worker=worker,
        version=version,
        product=product,
        kind=kind,
        name=name,
        hour_ms=hour_ms,
        events=counters.get("events", 0),
        cpu_us=counters.get("cpu_ns", 0) // 1000,
        wall_ms=counters.get("wall_us", 0) / 1000,
        quantities={
            name: count for name, count in counters.items() if name not in _OWN and not name.startswith(_OUTCOME)
        },
        errors={name[len(_OUTCOME) :]: count for name, count in counters.items() if name.startswith(_OUTCOME)},
    )


def _storable(name: str) -> str:
    """Names come from scripts, and a lone surrogate has no place in a key."""
    return name.encode("utf-8", "replace").decode()
