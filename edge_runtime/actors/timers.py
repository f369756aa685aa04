"""Timers: the durable table of who is to be woken when, and one record per actor beside it.

Keys of Table.TIMERS, value empty:

    encode(worker, due_ms, kind, namespace, id)          the actor's own timer; ACTORS holds the same due time
    encode(worker, due_ms, kind, namespace, id, token)   a wake-up by somebody else, deleted once it was heard

Table.ACTORS: encode(worker, kind, namespace, id) -> ActorRecord, as `store.records`. It exists while there is something
to say in it. Kinds are `ActorKind.code`, ids and tokens `keys.short`.

The earliest timer is read from the table and nothing of it is kept in memory, so a sleeper costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from edge_runtime.actors.api import ActorAddress, ActorKind
from edge_runtime.errors import StoreCorrupt
from edge_runtime.store import keys
from edge_runtime.store.api import Batch, Snapshot, Table
from edge_runtime.store.records import RecordCodec


class ActorRecord(msgspec.Struct, frozen=True, array_like=True):
    due_ms: int | None = None
    retries: int = 0
    name: str | None = None
    first_due_ms: int | None = None
    """While the timer is being retried: what it was first set to, before `due_ms`."""

    @property
    def scheduled_ms(self) -> int | None:
        """What the timer was first set to."""
        return self.due_ms if self.first_due_ms is None else self.first_due_ms

    @property
    def blank(self) -> bool:
        return self.due_ms is None and self.name is None


BLANK: Final = ActorRecord()
_RECORD: Final[RecordCodec[ActorRecord]] = RecordCodec(ActorRecord)
_KINDS: Final = {kind.code: kind for kind in ActorKind}


@dataclass(frozen=True, slots=True)
class DueTimer:
    address: ActorAddress
    due_ms: int
    key: bytes
    own: bool
    """False for a wake-up by somebody else."""


def record_key(address: ActorAddress) -> bytes:
    return keys.head(address.worker, address.kind.code, address.namespace) + keys.encode_id(address.id)


def timer_key(address: ActorAddress, due_ms: int) -> bytes:
    whose = keys.head(address.kind.code, address.namespace) + keys.encode_id(address.id)
    return keys.head(address.worker) + keys.encode(due_ms) + whose


def encode_record(record: ActorRecord) -> bytes:
    return _RECORD.encode(record)


def decode_record(data: bytes) -> ActorRecord:
    """Raises StoreCorrupt."""
    return _RECORD.decode(data)


def read_record(snapshot: Snapshot, address: ActorAddress) -> ActorRecord | None:
    data = snapshot.get(Table.ACTORS, record_key(address))
    return None if data is None else decode_record(data)


def write_record(batch: Batch, address: ActorAddress, old: ActorRecord | None, new: ActorRecord | None) -> None:
    """Replace what is stored of an actor, its timer included. `old` is what this batch will find there."""
    old_due = None if old is None else old.due_ms
    new_due = None if new is None else new.due_ms
    if old_due is not None and old_due != new_due:
        batch.delete(Table.TIMERS, timer_key(address, old_due))
    if new_due is not None and old_due != new_due:
        batch.put(Table.TIMERS, timer_key(address, new_due), b"")
    if new is not None and not new.blank:
        if new != old:
            batch.put(Table.ACTORS, record_key(address), encode_record(new))
    elif old is not None:
        batch.delete(Table.ACTORS, record_key(address))


def schedule_new(batch: Batch, address: ActorAddress, due_ms: int) -> None:
    """Set the timer of an actor that comes into being with this batch, so that it has none and is not activated."""
    write_record(batch, address, None, ActorRecord(due_ms))


def schedule(
    batch: Batch, snapshot: Snapshot, address: ActorAddress, due_ms: int | None, *, name: str | None = None
) -> None:
    """Set, move or clear the timer of an actor that is not activated, as part of `batch`.

    The batch gets an Expect on the actor's record as `snapshot` has it: if somebody changed it meanwhile, the commit
    is refused with Conflict. Tell the host (`timers_changed`) once it is durable. To reach an actor that may be
    active in another process, `wake` it instead.
    """
    key = record_key(address)
    stored = snapshot.get(Table.ACTORS, key)
    old = None if stored is None else decode_record(stored)
    kept = name if name is not None or old is None else old.name
    batch.expect(Table.ACTORS, key, stored)
    write_record(batch, address, old, ActorRecord(due_ms, 0, kept))


def retry(batch: Batch, snapshot: Snapshot, timer: DueTimer, due_ms: int | None) -> None:
    """Move the timer of an actor that is not activated to its next attempt, or clear it, as `schedule` does."""
    key = record_key(timer.address)
    stored = snapshot.get(Table.ACTORS, key)
    old = BLANK if stored is None else decode_record(stored)
    batch.expect(Table.ACTORS, key, stored)
    new = ActorRecord(None, name=old.name)
    if due_ms is not None:
        new = ActorRecord(due_ms, old.retries + 1, old.name, old.scheduled_ms)
    write_record(batch, timer.address, old, new)


def forget(batch: Batch, snapshot: Snapshot, address: ActorAddress) -> None:
    """Remove what the tables here hold of an actor that is not activated."""
    write_record(batch, address, read_record(snapshot, address), None)


def wake(batch: Batch, address: ActorAddress, due_ms: int, token: str) -> None:
    """Have `timer()` of the actor's body called at `due_ms` or soon after, whatever its own timer says.

    For messages that another process left for it in the same batch: one call is made for all wake-ups that are found
    together, after they were. `token` is unique (`Randomness.uuid`), so that no
    wake-up is taken for an earlier one.
    """
    batch.put(Table.TIMERS, timer_key(address, due_ms) + keys.encode(keys.short(token)), b"")


def pending(snapshot: Snapshot, worker: str, until_ms: int | None = None) -> Iterator[DueTimer]:
    """All timers of a worker with due_ms <= until_ms (None: all), earliest first, lazily."""
    start, end = keys.prefix_range(worker)
    if until_ms is not None:
        end = keys.encode(worker, until_ms + 1)
    for key in snapshot.keys(Table.TIMERS, start, end):
        yield _decode_timer(key)


def next_due_ms(snapshot: Snapshot, worker: str) -> int | None:
    """When the earliest timer of a worker is due; None without timers."""
    return next((timer.due_ms for timer in pending(snapshot, worker)), None)


def due(snapshot: Snapshot, worker: str, now_ms: int, limit: int) -> list[DueTimer]:
    """At most `limit` timers that are due, earliest first."""
    found: list[DueTimer] = []
    for timer in pending(snapshot, worker, now_ms):
        if len(found) >= limit:
            break
        found.append(timer)
    return found


def scheduled_namespaces(snapshot: Snapshot, worker: str, kind: ActorKind) -> list[str]:
    """The namespaces of a kind that have a record, in order; one look-up each, however many actors there are."""
    found: list[str] = []
    start, end = keys.prefix_range(worker, kind.code)
    while (key := next(iter(snapshot.keys(Table.ACTORS, start, end)), None)) is not None:
        namespace = keys.decode(key)[2]
        if not isinstance(namespace, str):
            raise StoreCorrupt(f"an actor's record has the key {key!r}")
        found.append(namespace)
        start = keys.prefix_range(worker, kind.code, namespace)[1]
    return found


def addresses(snapshot: Snapshot, worker: str, kind: ActorKind, namespace: str, limit: int) -> list[ActorAddress]:
    """At most `limit` actors of a namespace that have a record, in the order of their ids."""
    found: list[ActorAddress] = []
    start, end = keys.prefix_range(worker, kind.code, namespace)
    for key in snapshot.keys(Table.ACTORS, start, end):
        if len(found) >= limit:
            break
        found.append(ActorAddress(worker, kind, namespace, keys.long(keys.decode(key)[3])))
    return found


def _decode_timer(key: bytes) -> DueTimer:
    match keys.decode(key):
        case (str(worker), int(due_ms), str(code), str(namespace), str() | bytes() as id, *token) if (
            len(token) <= 1 and code in _KINDS
        ):
            address = ActorAddress(worker, _KINDS[code], namespace, keys.long(id))
            return DueTimer(address, due_ms, key, own=not token)
        case _:
            raise StoreCorrupt(f"a timer has the key {key!r}")
