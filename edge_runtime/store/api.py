"""The storage seam: ordered keys, snapshots, atomic batches that are durable when acknowledged.

Everything above this package reads through `Snapshot` and writes through `Batch`; nothing above it knows LMDB.
Implementations: `lmdb_store` (production) and `memory_store` (a model for tests); both pass `tests/contract`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from enum import StrEnum
from typing import Protocol

import msgspec

from edge_runtime.promise import Promise


class Table(StrEnum):
    """The named databases of a data directory. Each has one owner, whose module documents its key layout."""

    META = "meta"  # store: format version, clean-shutdown mark
    KV = "kv"  # bindings.kv: entries
    CHUNKS = "chunks"  # store.chunks: pieces of large values
    OBJECTS = "objects"  # actors.storage: private storage of Durable Objects
    CLASSES = "classes"  # bindings.durable_objects.history: which migrations were applied, by worker
    ACTORS = "actors"  # actors: one record per actor that has stored anything
    JOURNAL = "journal"  # workflows.core.journal: entries of instances
    INSTANCES = "instances"  # workflows: one record per instance
    INBOX = "inbox"  # workflows: events and commands not yet consumed
    ANSWERS = "answers"  # actors: replies to calls that may be repeated, by the caller's identity
    STREAMS = "streams"  # workflows.stored.streams: pieces of streams that steps returned
    TIMERS = "timers"  # actors.timers: by worker and due time
    LEDGER = "ledger"  # metering.ledger: usage by hour

    # Tables are looked up at every operation; an Enum's own hash is a function in Python.
    __hash__ = str.__hash__


class Put(msgspec.Struct, frozen=True):
    table: Table
    key: bytes
    value: bytes


class Delete(msgspec.Struct, frozen=True):
    table: Table
    key: bytes


class DeleteRange(msgspec.Struct, frozen=True):
    """Delete every key with start <= key < end."""

    table: Table
    start: bytes
    end: bytes


class CopyPrefix(msgspec.Struct, frozen=True):
    """Put a copy of every entry whose key begins with `prefix` under `to` and the rest of its key. Neither of the two
    begins with the other."""

    table: Table
    prefix: bytes
    to: bytes


class Expect(msgspec.Struct, frozen=True):
    """Refuse the whole batch with Conflict unless the key holds exactly this value (None: is absent).

    Seen are the effects of batches committed before and of this batch's own earlier operations.
    """

    table: Table
    key: bytes
    value: bytes | None


class AddCounters(msgspec.Struct, frozen=True):
    """Add to the counters stored under a key (a CBOR map of name to integer); absent counts as zero."""

    table: Table
    key: bytes
    counters: Mapping[str, int]


Operation = Put | Delete | DeleteRange | CopyPrefix | Expect | AddCounters


class Batch:
    """Operations that become durable together, in order, or not at all."""

    __slots__ = ("operations",)

    def __init__(self) -> None:
        self.operations: list[Operation] = []

    def __bool__(self) -> bool:
        return bool(self.operations)

    def put(self, table: Table, key: bytes, value: bytes) -> Batch:
        self.operations.append(Put(table, key, value))
        return self

    def delete(self, table: Table, key: bytes) -> Batch:
        self.operations.append(Delete(table, key))
        return self

    def delete_range(self, table: Table, start: bytes, end: bytes) -> Batch:
        self.operations.append(DeleteRange(table, start, end))
        return self

    def copy_prefix(self, table: Table, prefix: bytes, to: bytes) -> Batch:
        self.operations.append(CopyPrefix(table, prefix, to))
        return self

    def expect(self, table: Table, key: bytes, value: bytes | None) -> Batch:
        self.operations.append(Expect(table, key, value))
        return self

    def add_counters(self, table: Table, key: bytes, counters: Mapping[str, int]) -> Batch:
        self.operations.append(AddCounters(table, key, dict(counters)))
        return self

    def extend(self, other: Batch) -> Batch:
        self.operations.extend(other.operations)
        return self


class Snapshot(Protocol):
    """A consistent view of everything committed when it was taken. Values are copies and may be kept.

    Use it without awaiting in between: a long-held snapshot keeps old pages from being reused.
    """

    def get(self, table: Table, key: bytes) -> bytes | None: ...

    def scan(
        self, table: Table, start: bytes = b"", end: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Pairs with start <= key < end (None: to the end of the table) in byte order, or reversed; lazily."""

    def keys(
        self, table: Table, start: bytes = b"", end: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[bytes]:
        """As `scan`, without reading values."""


class Store(Protocol):
    """An open data directory. All methods belong to the event loop's thread.

    Keys are 1 to STORE_KEY_MAX bytes and ordered bytewise; values are 0 to 2**31 - 1 bytes.
    """

    def snapshot(self) -> AbstractContextManager[Snapshot]: ...

    def get(self, table: Table, key: bytes) -> bytes | None:
        """One committed value; the cheapest read there is."""

    def commit(self, batch: Batch) -> Promise[None]:
        """Queue a batch for the next group commit; batches are applied in the order of these calls.

        The promise resolves when the fsync that covers the batch has returned. It rejects with Conflict if an Expect
        did not hold (other batches of the group are not affected), with StoreFailed if the commit failed: then every
        later commit is refused too, and the process must end. An empty batch resolves when all earlier ones are
        durable.
        """

    @property
    def failed(self) -> Promise[None]:
        """Rejected with StoreFailed when a commit has failed; pending for as long as all is well."""
