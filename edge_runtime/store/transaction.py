"""Transactions of events: what an event writes through its bindings, gathered to be committed with something else.

An `EventStore` is what bindings get for a store. While the running event has a transaction open, `commit` puts the
batch into it and reads see what it holds; whoever opened it commits it, in a batch of his own, or drops it. Outside of
a transaction everything goes to the store. So bindings need to know nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from edge_runtime.errors import Conflict, StoreError
from edge_runtime.event import current_event
from edge_runtime.promise import Promise
from edge_runtime.store import keys
from edge_runtime.store.api import (
    AddCounters,
    Batch,
    CopyPrefix,
    Delete,
    DeleteRange,
    Expect,
    Put,
    Snapshot,
    Store,
    Table,
)
from edge_runtime.store.operations import add_counters, check_copy, check_entry, check_key, end_of_prefix

Changes = dict[Table, dict[bytes, bytes | None]]


class Transaction:
    """The writes of one event, and the identities of the calls that it makes.

    `identity` is that of the work the transaction belongs to: the same one when the work is done again.
    """

    __slots__ = ("_calls", "batch", "changes", "closed", "identity", "when_durable")

    def __init__(self, identity: bytes) -> None:
        self.identity = identity
        self.batch = Batch()
        self.changes: Changes = {}
        self.closed = False
        self.when_durable: list[Callable[[], object]] = []
        """To be called by whoever commits it, afterwards: who is to hear of what it wrote."""
        self._calls: dict[tuple[str, ...], int] = {}

    def call(self, *what: str) -> bytes:
        """The identity of a call, by what is called and how often it has been: a key of Table.ANSWERS."""
        count = self._calls[what] = self._calls.get(what, 0) + 1
        return self.identity + keys.encode(*what, count)

    def stage(self, store: Store, batch: Batch) -> None:
        """Take a batch in whole or not at all. Raises Conflict if it expects what is not so, now or within here."""
        if self.closed:
            raise StoreError("the transaction that this write belonged to has ended")
        with store.snapshot() as snapshot:
            changes = {table: dict(found) for table, found in self.changes.items()}
            view = OverlaySnapshot(snapshot, changes)
            for operation in batch.operations:
                found = changes.setdefault(operation.table, {})
                match operation:
                    case Put(_, key, value):
                        check_entry(key, value)
                        found[key] = value
                    case Delete(_, key):
                        check_key(key)
                        found[key] = None
                    case DeleteRange(table, start, end):
                        found.update(dict.fromkeys(list(view.keys(table, start, end))))
                    case CopyPrefix(table, prefix, to):
                        check_copy(prefix, to)
                        for key, value in list(view.scan(table, prefix, end_of_prefix(prefix))):
                            check_key(to + key[len(prefix) :])
                            found[to + key[len(prefix) :]] = value
                    case AddCounters(table, key, counters):
                        found[key] = add_counters(view.get(table, key), counters)
                    case Expect(table, key, expected):
                        if view.get(table, key) != expected:
                            raise Conflict(f"{table} key {key!r} does not hold what the batch expects")
        self.changes = changes
        self.batch.extend(batch)


class OverlaySnapshot:
    """A snapshot as it will be once changes are made; see `api.Snapshot`."""

    __slots__ = ("_base", "_changes")

    def __init__(self, base: Snapshot, changes: Changes) -> None:
        self._base = base
        self._changes = changes

    def get(self, table: Table, key: bytes) -> bytes | None:
        changed = self._changes.get(table)
        if changed is not None and key in changed:
            return changed[key]
        return self._base.get(table, key)

    def scan(
        self, table: Table, start: bytes = b"", end: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        for key in self.keys(table, start, end, reverse=reverse):
            value = self.get(table, key)
            assert value is not None, "the keys are those of present values"
            yield key, value

    def keys(
        self, table: Table, start: bytes = b"", end: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[bytes]:
        changed = self._changes.get(table, {})
        added = [key for key, value in changed.items() if value is not None and key >= start]
        added = sorted((key for key in added if end is None or key < end), reverse=reverse)
        at = 0
        for key in self._base.keys(table, start, end, reverse=reverse):
            while at < len(added) and ((added[at] > key) if reverse else (added[at] < key)):
                yield added[at]
                at += 1
            if key not in changed:
                yield key
        yield from added[at:]


class _OverlayContext:
    """A snapshot of the store with the changes of a transaction, begun by `with`."""

    def __init__(self, base: AbstractContextManager[Snapshot], changes: Changes) -> None:
        self._base = base
        self._changes = changes

    def __enter__(self) -> Snapshot:
        return OverlaySnapshot(self._base.__enter__(), self._changes)

    def __exit__(self, *exc_info: object) -> None:
        self._base.__exit__(None, None, None)


def _open_transaction() -> Transaction | None:
    event = current_event.get()
    return None if event is None else event.transaction


def tell_when_durable(tell: Callable[[], object]) -> None:
    """Call `tell` now or, in a transaction, once that is durable: others are to hear of what was committed."""
    transaction = _open_transaction()
    if transaction is None:
        tell()
    else:
        transaction.when_durable.append(tell)


class EventStore:
    """`api.Store` for bindings; see this module."""

    __slots__ = ("_store",)

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def failed(self) -> Promise[None]:
        return self._store.failed

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        transaction = _open_transaction()
        if transaction is None:
            return self._store.snapshot()
        return _OverlayContext(self._store.snapshot(), transaction.changes)

    def get(self, table: Table, key: bytes) -> bytes | None:
        transaction = _open_transaction()
        if transaction is not None:
            changed = transaction.changes.get(table)
            if changed is not None and key in changed:
                return changed[key]
        return self._store.get(table, key)

    def commit(self, batch: Batch) -> Promise[None]:
        """In a transaction, resolves once the batch is part of it: then it becomes durable with the rest, or never."""
        transaction = _open_transaction()
        if transaction is None:
            return self._store.commit(batch)
        try:
            transaction.stage(self._store, batch)
        except Exception as error:
            return Promise.rejected(error)
        return Promise.resolved(None)
