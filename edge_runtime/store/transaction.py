"""Transactions of events: what an event writes through its bindings, gathered to be committed with something else.

An `EventStore` is what bindings get for a store. While the running event has a transaction open, `commit` puts the
batch into it and reads see what it holds; whoever opened it commits it, in a batch of his own, or drops it. Outside of
a transaction everything goes to the store. So bindings need to know nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from edge_runtime.errors import StoreError
from edge_runtime.event import current_event
from edge_runtime.promise import Promise
from edge_runtime.store import keys
from edge_runtime.store.api import Batch, Snapshot, Store, Table
from edge_runtime.store.changes import Changes, OverlaySnapshot, apply


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
            apply(batch, snapshot, changes)
        self.changes = changes
        self.batch.extend(batch)


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
