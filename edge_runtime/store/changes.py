"""What batches change of a store, kept beside it: what a transaction has staged, what a commit in memory does."""

from __future__ import annotations

from collections.abc import Iterator

from edge_runtime.errors import Conflict
from edge_runtime.store.api import (
    AddCounters,
    Batch,
    CopyPrefix,
    Delete,
    DeleteRange,
    Expect,
    Put,
    Snapshot,
    Table,
)
from edge_runtime.store.operations import add_counters, check_copy, check_entry, check_key, end_of_prefix

Changes = dict[Table, dict[bytes, bytes | None]]
"""Values by key; None: deleted."""


def apply(batch: Batch, base: Snapshot, changes: Changes) -> None:
    """Add to `changes` of `base` what the batch does.

    Raises Conflict if it expects what is not so, and what the checks of keys and values raise; then `changes` are to be
    thrown away.
    """
    view = OverlaySnapshot(base, changes)
    for operation in batch.operations:
        found = changes.setdefault(operation.table, {})
        match operation:
            case Put(_, key, value):
                check_entry(key, value)
                found[key] = bytes(value)
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
                check_key(key)
                found[key] = add_counters(view.get(table, key), counters)
            case Expect(table, key, expected):
                check_key(key)
                if view.get(table, key) != expected:
                    raise Conflict(f"{table} key {key!r} does not hold what the batch expects; nothing was written")


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
