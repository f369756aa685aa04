"""The record of an instance and the tables of instances: what is known of one without reading its journal.

Keys of Table.INSTANCES:

    ("r", worker, workflow, id)                      InstanceRecord, as `store.records`
    ("s", worker, workflow, status, created_ms, id)  empty: those of one status, oldest first
    ("p", worker, version, workflow, id)             empty: those that stay with a version of their script

Ids are `keys.short`. An instance is stored under its worker's name. Its actor is that worker's or, if it is pinned,
that of the version.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum
from heapq import merge
from typing import Final

import msgspec

from edge_runtime.actors.api import ActorAddress, ActorKind
from edge_runtime.config.pinned import pinned_name, worker_of
from edge_runtime.limits import ADDRESSED_ID_MAX, INSTANCE_ID_MAX, INSTANCE_RETENTION_MS, WORKFLOW_NAME_MAX
from edge_runtime.store import keys
from edge_runtime.store.api import Batch, Snapshot, Table
from edge_runtime.store.keys import Part
from edge_runtime.store.records import RecordCodec
from edge_runtime.store.values import ErrorRecord
from edge_runtime.workflows.core.journal import StepKey
from edge_runtime.workflows.stored import blocks, inbox, instance_keys

_ID: Final = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9-_]*")
_ADDRESSED: Final = re.compile(r"[a-zA-Z0-9, */#_-]+")


class Status(StrEnum):
    """Values are Cloudflare's and stored."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    ERRORED = "errored"
    TERMINATED = "terminated"
    COMPLETE = "complete"
    WAITING = "waiting"
    WAITING_FOR_PAUSE = "waitingForPause"


FINAL: Final = frozenset({Status.COMPLETE, Status.ERRORED, Status.TERMINATED})
UNFINISHED: Final = tuple(status for status in Status if status not in FINAL)


class Awaited(msgspec.Struct, frozen=True, array_like=True):
    """What an instance waits for."""

    step: str
    kind: str
    due_ms: int
    event_type: str = ""


class Deaths(msgspec.Struct, frozen=True, array_like=True):
    """Isolates that ended while `run` of an instance was executing, in a row: no step was done in between."""

    count: int
    certain: int
    """Of those, how many the instance has ended for sure."""
    steps_done: int
    """At the last one."""
    last_ms: int


class InstanceRecord(msgspec.Struct, frozen=True, array_like=True):
    """Written when something in it changes, which is not with every step.

    Invariant: the journal holds at least the entries 1 to `seq`; of a finished instance exactly these.
    """

    status: Status
    created_ms: int
    updated_ms: int
    seq: int
    version: str = ""
    """Of the worker that created it."""
    not_before_ms: int = 0
    """A delayed start, or how long it is left alone after it has ended an isolate."""
    started_ms: int | None = None
    ended_ms: int | None = None
    awaited: tuple[Awaited, ...] = ()
    """While it is waiting: for what, soonest first, as far as it is shown."""
    output: bytes | None = None
    error: ErrorRecord | None = None
    """Why it failed or, while it is paused, was stopped."""
    stopped_version: str | None = None
    """The script of this version was stopped because it drifted from the journal; another goes on."""
    pinned: bool = False
    """It runs in `version` of the worker, whichever is the newest."""
    success_retention_ms: int | None = None
    """How long it is kept once it is complete; None: INSTANCE_RETENTION_MS."""
    error_retention_ms: int | None = None
    """The same, if it has failed or was terminated."""
    deaths: Deaths | None = None

    @property
    def finished(self) -> bool:
        return self.status in FINAL


_RECORD: Final[RecordCodec[InstanceRecord]] = RecordCodec(InstanceRecord)


def is_instance_id(value: object) -> bool:
    return isinstance(value, str) and len(value) <= INSTANCE_ID_MAX and _ID.fullmatch(value) is not None


def is_addressable(value: object) -> bool:
    return isinstance(value, str) and len(value) <= ADDRESSED_ID_MAX and _ADDRESSED.fullmatch(value) is not None


def is_workflow_name(value: object) -> bool:
    return isinstance(value, str) and len(value) <= WORKFLOW_NAME_MAX and _ID.fullmatch(value) is not None


def address_of(worker: str, workflow: str, instance: str) -> ActorAddress:
    return ActorAddress(worker, ActorKind.WORKFLOW, workflow, instance)


def actor_of(address: ActorAddress, record: InstanceRecord) -> ActorAddress:
    """Where the instance at `address` runs."""
    if not record.pinned:
        return address
    return address_of(pinned_name(address.worker, record.version), address.namespace, address.id)


def home_of(actor: ActorAddress) -> ActorAddress:
    """Where the instance is stored that runs as `actor`."""
    return address_of(worker_of(actor.worker), actor.namespace, actor.id)


def record_key(address: ActorAddress) -> bytes:
    return keys.head("r", address.worker, address.namespace) + keys.encode_id(address.id)


def read(snapshot: Snapshot, address: ActorAddress) -> InstanceRecord | None:
    stored = snapshot.get(Table.INSTANCES, record_key(address))
    return None if stored is None else decode(stored)


def decode(stored: bytes) -> InstanceRecord:
    """Raises StoreCorrupt."""
    return _RECORD.decode(stored)


def write(batch: Batch, address: ActorAddress, old: InstanceRecord | None, new: InstanceRecord) -> None:
    """Put the record, and move it in the index if it is new or its status has changed."""
    batch.put(Table.INSTANCES, record_key(address), _RECORD.encode(new))
    if old is not None and old.pinned and not new.pinned:
        batch.delete(Table.INSTANCES, _pinned_key(address, old))
    if new.pinned and not (old is not None and old.pinned):
        batch.put(Table.INSTANCES, _pinned_key(address, new), b"")
    if old is not None:
        if old.status is new.status:
            return
        batch.delete(Table.INSTANCES, status_key(address, old))
    batch.put(Table.INSTANCES, status_key(address, new), b"")


def delete(batch: Batch, address: ActorAddress, record: InstanceRecord) -> None:
    """Remove everything that the tables of workflows hold of an instance."""
    batch.delete(Table.INSTANCES, record_key(address))
    batch.delete(Table.INSTANCES, status_key(address, record))
    if record.pinned:
        batch.delete(Table.INSTANCES, _pinned_key(address, record))
    own = blocks.key_range(address.worker, address.namespace, address.id)
    batch.delete_range(Table.JOURNAL, *own)
    batch.delete_range(Table.INBOX, *inbox.key_range(address))
    batch.delete_range(Table.STREAMS, *own)
    forget_answers(batch, address)


def forget_answers(batch: Batch, address: ActorAddress, key: StepKey | None = None) -> None:
    """Delete the recorded replies to calls of a step that is over, or of all steps."""
    start = instance_keys.answers_key(address, key)
    batch.delete_range(Table.ANSWERS, start, start + b"\xff")


def finished_record(
    record: InstanceRecord, status: str, output: bytes | None, error: ErrorRecord | None, now_ms: int
) -> InstanceRecord:
    final = Status(status)
    assert final in FINAL, "an instance ends with a final status"
    return msgspec.structs.replace(
        record, status=final, awaited=(), output=output, error=error, ended_ms=now_ms, updated_ms=now_ms
    )


def retained_until_ms(record: InstanceRecord) -> int:
    """When a finished instance is deleted; its actor's timer is set to it."""
    kept_ms = record.success_retention_ms if record.status is Status.COMPLETE else record.error_retention_ms
    return (record.ended_ms or record.updated_ms) + (INSTANCE_RETENTION_MS if kept_ms is None else kept_ms)


def scan(
    snapshot: Snapshot, worker: str, workflow: str, status: Status | None = None, *, reverse: bool = False
) -> Iterator[tuple[str, InstanceRecord]]:
    """(id, record) of the instances of a workflow, newest first, lazily; `reverse`: oldest first."""
    for id in ids(snapshot, worker, workflow, status, reverse=reverse):
        record = read(snapshot, address_of(worker, workflow, id))
        if record is not None:
            yield id, record


def ids(
    snapshot: Snapshot, worker: str, workflow: str, status: Status | None = None, *, reverse: bool = False
) -> Iterator[str]:
    """The ids of the instances of a workflow, as `scan`, without reading records."""
    wanted = Status if status is None else (status,)
    places = [_places(snapshot, worker, workflow, one, oldest_first=reverse) for one in wanted]
    for _, id in places[0] if len(places) == 1 else merge(*places, reverse=not reverse):
        yield keys.long(id)


def queued(snapshot: Snapshot, worker: str, workflow: str, start: bytes) -> Iterator[tuple[bytes, str]]:
    """(key in the index, id) of the queued instances of a workflow, the oldest first, from the key `start` on."""
    first, end = keys.prefix_range("s", worker, workflow, Status.QUEUED.value)
    for key in snapshot.keys(Table.INSTANCES, max(first, start), end):
        yield key, keys.long(keys.decode(key)[-1])


def _places(
    snapshot: Snapshot, worker: str, workflow: str, status: Status, *, oldest_first: bool
) -> Iterator[tuple[tuple[int, bool, Part], Part]]:
    """What the instances of one status are sorted by, and their ids as they are in keys."""
    bounds = keys.prefix_range("s", worker, workflow, status.value)
    for key in snapshot.keys(Table.INSTANCES, *bounds, reverse=not oldest_first):
        *_, created_ms, id = keys.decode(key)
        assert isinstance(created_ms, int), "an index key has the time before the id"
        yield (created_ms, isinstance(id, str), id), id


def workflows(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    """(worker, workflow) of every workflow that has instances; one look-up each, however many those are."""
    start, end = keys.prefix_range("s")
    while (key := next(iter(snapshot.keys(Table.INSTANCES, start, end)), None)) is not None:
        _, worker, workflow, *_ = keys.decode(key)
        assert isinstance(worker, str), "an index key begins with names"
        assert isinstance(workflow, str), "an index key begins with names"
        yield worker, workflow
        start = keys.prefix_range("s", worker, workflow)[1]


def pinned_versions(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    """(worker, version) of every version that instances are pinned to; one look-up each, however many those are."""
    start, end = keys.prefix_range("p")
    while (key := next(iter(snapshot.keys(Table.INSTANCES, start, end)), None)) is not None:
        _, worker, version, *_ = keys.decode(key)
        assert isinstance(worker, str), "an index key begins with names"
        assert isinstance(version, str), "an index key begins with names"
        yield worker, version
        start = keys.prefix_range("p", worker, version)[1]


def _pinned_key(address: ActorAddress, record: InstanceRecord) -> bytes:
    return keys.encode("p", address.worker, record.version, address.namespace, keys.short(address.id))


def status_key(address: ActorAddress, record: InstanceRecord) -> bytes:
    """Where the index has the instance."""
    place = keys.encode(record.created_ms) + keys.encode_id(address.id)
    return keys.head("s", address.worker, address.namespace, record.status) + place
