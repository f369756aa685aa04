"""What the store holds of objects: which there are, and the entries, alarm and size of one. Reads snapshots only.

An object is there if it has a record (a name or an alarm), or entries; unique ids without an alarm have no record.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from edge_runtime.actors.api import ActorAddress, ActorKind
from edge_runtime.actors.timers import BLANK, read_record, scheduled_namespaces
from edge_runtime.errors import StoreCorrupt
from edge_runtime.store import keys, values
from edge_runtime.store.api import Snapshot, Table


@dataclass(frozen=True, slots=True)
class StoredObject:
    id: str
    name: str | None
    alarm_ms: int | None
    retries: int
    entries: int
    bytes: int
    """Of all keys and stored values."""


@dataclass(frozen=True, slots=True)
class StoredEntry:
    key: str
    bytes: int
    value: Any


def ids(snapshot: Snapshot, worker: str, namespace: str) -> Iterator[str]:
    """The ids of a namespace's objects, in order, each once; a look-up or two for each, whatever they hold."""
    in_records = _next_ids(snapshot, Table.ACTORS, (worker, ActorKind.OBJECT.code, namespace))
    in_entries = _next_ids(snapshot, Table.OBJECTS, (worker, namespace))
    record, entry = next(in_records, None), next(in_entries, None)
    while record is not None or entry is not None:
        id = min(found for found in (record, entry) if found is not None)
        yield id
        if record == id:
            record = next(in_records, None)
        if entry == id:
            entry = next(in_entries, None)


def _next_ids(snapshot: Snapshot, table: Table, prefix: tuple[str, ...]) -> Iterator[str]:
    start, end = keys.prefix_range(*prefix)
    while (key := next(iter(snapshot.keys(table, start, end)), None)) is not None:
        id = keys.decode(key)[len(prefix)]
        if not isinstance(id, str):
            raise StoreCorrupt(f"an object is stored under {key!r}")
        yield id
        start = keys.prefix_range(*prefix, id)[1]


def entries(snapshot: Snapshot, worker: str, namespace: str, id: str) -> Iterator[StoredEntry]:
    start, end = keys.prefix_range(worker, namespace, id)
    for key, data in snapshot.scan(Table.OBJECTS, start, end):
        name = str(keys.decode(key)[3])
        yield StoredEntry(name, len(name.encode()) + len(data), values.decode(data))


def describe(snapshot: Snapshot, worker: str, namespace: str, id: str) -> StoredObject:
    record = read_record(snapshot, ActorAddress(worker, ActorKind.OBJECT, namespace, id)) or BLANK
    count = size = 0
    start, end = keys.prefix_range(worker, namespace, id)
    for key, data in snapshot.scan(Table.OBJECTS, start, end):
        count += 1
        size += len(str(keys.decode(key)[3]).encode()) + len(data)
    return StoredObject(id, record.name, record.scheduled_ms, record.retries, count, size)


def namespaces(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    """(worker, namespace) of everything that objects have stored, in order."""
    found: set[tuple[str, str]] = set()
    start: bytes = b""
    while (key := next(iter(snapshot.keys(Table.OBJECTS, start)), None)) is not None:
        worker, namespace = (str(part) for part in keys.decode(key)[:2])
        found.add((worker, namespace))
        start = keys.prefix_range(worker, namespace)[1]
    start = b""
    while (key := next(iter(snapshot.keys(Table.ACTORS, start)), None)) is not None:
        worker = str(keys.decode(key)[0])
        found.update((worker, name) for name in scheduled_namespaces(snapshot, worker, ActorKind.OBJECT))
        start = keys.prefix_range(worker)[1]
    yield from sorted(found)
