"""The ledger: what every handler used, by hour, durable.

Each event is charged before anybody is told that it is done, to a tally (see `metering.tally`) that outlives a killed
isolate in its file. What has gathered there is added to Table.LEDGER in the group commits that happen anyway, every
LEDGER_RIDE_S at most, and in one of its own after LEDGER_FLUSH_S without. So a killed process loses what had not ended,
and a loss of power what was charged since the last commit that took charges along: within LEDGER_RIDE_S and a commit
while others follow, within LEDGER_FLUSH_S if none does. No event is counted twice.

A row's key is (worker, hour, version, product, kind, name), the hour as milliseconds since the Unix epoch, and its
value the counters `events`, `cpu_ns`, `wall_us`, those of `metering.quantities` and, for outcomes other than "ok",
`outcome:<outcome>`. What is zero is not stored. Rows of the product "process" are the isolates' own accounts: their
counters are the fields of `ProcessCpu`, and `portions`, which counts how many of the isolate's tally are in the ledger.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from edge_runtime.errors import StoreCorrupt
from edge_runtime.metering.tally import NO_QUANTITIES, Charge, Owner, Portion, Segments, Tally
from edge_runtime.promise import Promise
from edge_runtime.seams import Clock
from edge_runtime.store import keys
from edge_runtime.store.api import Batch, Snapshot, Store, Table
from edge_runtime.store.operations import decode_counters

HOUR_MS: Final = 3_600_000
_OUTCOME: Final = "outcome:"
PROCESS: Final = "process"
"""In the place of a row's product and kind: the row is the account of an isolate, named by it."""
STARTUP: Final = "startup"
"""In the place of an event's kind: the script's import."""
_PORTIONS: Final = "portions"
_TIMES: Final = frozenset(("cpu_s", "wall_s"))
_OWN: Final = frozenset(("events", "cpu_ns", "wall_us"))
"""Counters of a row that are fields of `UsageRow`."""


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
    native_ns: int = 0
    """Of `attributed_ns`, what threads have used that native code made: what nothing else did, so not a clock's."""

    def __sub__(self, other: ProcessCpu) -> ProcessCpu:
        return ProcessCpu(*(getattr(self, name) - getattr(other, name) for name in _PROCESS_COUNTERS))

    def __add__(self, other: ProcessCpu) -> ProcessCpu:
        return ProcessCpu(*(getattr(self, name) + getattr(other, name) for name in _PROCESS_COUNTERS))

    @property
    def unexplained_ns(self) -> int:
        """What the kernel counted and nothing here did."""
        return self.kernel_ns - self.attributed_ns - self.loop_ns - self.threads_ns


_PROCESS_COUNTERS: Final = ("kernel_ns", "attributed_ns", "loop_ns", "threads_ns", "native_ns")


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


class Ledger:
    """The charges of one isolate, which runs one version of one worker. `segments`: the memory of its tally."""

    def __init__(self, store: Store, clock: Clock, owner: Owner, segments: Segments) -> None:
        self._store = store
        self._clock = clock
        self._owner = owner
        self._tally = Tally(segments, clock.now_ms())
        self.charge_event = self._tally.charge
        """Add to what events of a handler used, in the hour in which it is written; see `Tally.charge`."""
        self._taken: Portion | None = None
        """It is being written, or could not be and is to be written next."""
        self._writing: Promise[None] | None = None
        self._process = ProcessCpu()

    @property
    def pending(self) -> bool:
        """Whether there are charges that are not durable."""
        return self._taken is not None or not self._tally.empty

    @property
    def writing(self) -> bool:
        return self._writing is not None

    def charge_process(self, used: ProcessCpu) -> None:
        """Add to the isolate's own account; written with the charges."""
        self._process += used

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
        """The same, for what is not charged often.

        With `events=0` the charge belongs to an event that was or will be counted by another call.
        """
        self._tally.charge((product, kind, name, outcome), events, cpu_ns / 1e9, wall_ms / 1000, quantities)

    def flush(self) -> Promise[None]:
        """Queue a portion of the tally for the next group commit; resolves when it is durable.

        Call it about once a second while there is something pending. One portion is written at a time: what is charged
        meanwhile takes another call. What a refused commit (StoreFull) did not write is pending still.
        """
        if self._writing is not None:
            return self._writing
        if not self.pending and self._process == ProcessCpu():
            return Promise.resolved(None)
        now_ms = self._clock.now_ms()
        if self._taken is None:
            self._taken = self._tally.take(now_ms)
        portion, self._process, process = self._taken, ProcessCpu(), self._process
        batch = Batch()
        add_portion(batch, self._owner, portion.counted(), now_ms, process)
        self._writing = written = self._store.commit(batch)
        written.add_done_callback(lambda promise: self._written(portion, process, promise.error is not None))
        return written

    async def flush_all(self) -> None:
        """Return when everything is durable, the isolate's own account included. Raises StoreFull."""
        while self._writing is not None or self.pending or self._process != ProcessCpu():
            await self.flush()

    def _written(self, portion: Portion, process: ProcessCpu, refused: bool) -> None:
        self._writing = None
        if refused:
            self._process += process
        else:
            self._taken = None
            self._tally.free(portion)


def add_portion(
    batch: Batch,
    owner: Owner,
    rows: Iterable[tuple[Charge, Mapping[str, float]]],
    at_ms: int,
    process: ProcessCpu = ProcessCpu(),
) -> None:
    """Add a portion of an isolate's tally to the ledger, to the hour of an instant, and count it."""
    for charge, counters in rows:
        batch.add_counters(Table.LEDGER, *stored_row(owner, charge, counters, at_ms))
    key = keys.encode(owner.worker, _hour_ms(at_ms), owner.version, PROCESS, PROCESS, owner.isolate)
    used = {name: getattr(process, name) for name in _PROCESS_COUNTERS}
    batch.add_counters(Table.LEDGER, key, {_PORTIONS: 1, **{name: amount for name, amount in used.items() if amount}})


def portions_written(snapshot: Snapshot, owner: Owner) -> int:
    """How many portions of an isolate's tally are in the ledger, which are those of the lowest numbers."""
    count = 0
    for key, value in snapshot.scan(Table.LEDGER, *_range(owner.worker, _hour_ms(owner.since_ms), None)):
        if keys.decode(key)[2:] == (owner.version, PROCESS, PROCESS, owner.isolate):
            count += decode_counters(value).get(_PORTIONS, 0)
    return count


def stored_row(owner: Owner, charge: Charge, counters: Mapping[str, float], at_ms: int) -> tuple[bytes, dict[str, int]]:
    """What a row of a tally adds in Table.LEDGER, if it is written at an instant: key and counters."""
    product, kind, name, outcome = charge
    stored = {
        "cpu_ns": round(counters.get("cpu_s", 0.0) * 1e9),
        "wall_us": round(counters.get("wall_s", 0.0) * 1e6),
        **{name: int(amount) for name, amount in counters.items() if name not in _TIMES},
    }
    if outcome != "ok":
        stored[_OUTCOME + outcome] = stored.get("events", 0)
    key = keys.encode(owner.worker, _hour_ms(at_ms), owner.version, product, kind, _storable(name))
    return key, {name: amount for name, amount in stored.items() if amount}


def read_usage(
    snapshot: Snapshot,
    *,
    worker: str | None = None,
    from_ms: int | None = None,
    to_ms: int | None = None,
    unwritten: Iterable[tuple[bytes, Mapping[str, int]]] = (),
) -> list[UsageRow]:
    """Rows of the hours that begin at or after `from_ms` and before `to_ms`, by worker, hour, version, product, kind
    and name. `unwritten`: what is to be added to them (see `left_usage.unwritten`)."""
    start, end = _range(worker, from_ms, to_ms)
    found = {key: decode_counters(value) for key, value in snapshot.scan(Table.LEDGER, start, end)}
    for key, added in unwritten:
        if start <= key < end:
            counters = found.setdefault(key, {})
            for name, amount in added.items():
                counters[name] = counters.get(name, 0) + amount
    rows = (_decode(key, counters) for key, counters in sorted(found.items()))
    return [row for row in rows if isinstance(row, UsageRow) and _within(row.hour_ms, from_ms, to_ms)]


def read_processes(
    snapshot: Snapshot, *, worker: str | None = None, from_ms: int | None = None, to_ms: int | None = None
) -> list[ProcessRow]:
    """As `read_usage`, of the isolates' own accounts."""
    scanned = snapshot.scan(Table.LEDGER, *_range(worker, from_ms, to_ms))
    rows = (_decode(key, decode_counters(value)) for key, value in scanned)
    return [row for row in rows if isinstance(row, ProcessRow) and _within(row.hour_ms, from_ms, to_ms)]


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


def _decode(key: bytes, counters: Mapping[str, int]) -> UsageRow | ProcessRow:
    parts = keys.decode(key)
    match parts:
        case (str(worker), int(hour_ms), str(version), str(product), str(kind), str(name)):
            pass
        case _:
            raise StoreCorrupt(f"a ledger row has the key {parts!r}")
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


def _hour_ms(at_ms: int) -> int:
    return at_ms // HOUR_MS * HOUR_MS
