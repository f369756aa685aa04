"""Write transactions on LMDB. Each begins and ends on the committer's thread: LMDB's writer lock has an owner."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from threading import Event, get_ident
from typing import Any, Final

import lmdb
import trio

from edge_runtime.errors import Conflict, StoreFailed, StoreFull
from edge_runtime.limits import STORE_FREE_MIN
from edge_runtime.store import chunks, long_keys, values
from edge_runtime.store.api import AddCounters, CopyPrefix, Delete, DeleteRange, Expect, Operation, Put, Table
from edge_runtime.store.committer import BatchRefused, MapFull
from edge_runtime.store.lmdb_environment import (
    NEXT_ID_KEY,
    Environment,
    check_space,
    is_disk_full,
    note_failure,
    own_mark,
    write_error,
)
from edge_runtime.store.operations import add_counters, check_copy, check_entry, check_key, end_of_prefix

_AT_ONCE: Final = 1000
_LOOP_CHECK_S: Final = 1.0

_MARK_VALUE: Final = chunks.INLINE + values.encode(None)


class LmdbWriter:
    """A `committer.GroupWriter`.

    `when_unread` is called on the event loop's thread and runs its argument there once nothing reads: the map must not
    move under a reader.
    """

    def __init__(
        self,
        environment: Environment,
        token: trio.lowlevel.TrioToken,
        when_unread: Callable[[Callable[[], None]], None],
    ) -> None:
        self._environment = environment
        self._env = environment.lmdb
        self._tables = environment.tables
        self._nodes = environment.nodes
        self._chunks = environment.tables[Table.CHUNKS]
        self._token = token
        self._when_unread = when_unread
        self._txn: Any = None
        self._thread = 0
        self._written = 0
        self._next_id: int | None = None
        self._marked = False
        self._mark = b""

    def begin(self) -> None:
        assert self._txn is None, "a write transaction is open"
        while self._txn is None:
            try:
                self._txn = self._env.begin(write=True)
            except lmdb.MapResizedError:
                self._resize_on_loop(0)
            except lmdb.Error as error:
                raise self._failed(error) from error
        self._thread = get_ident()
        self._written = 0
        self._next_id = None

    def apply(self, operations: list[Operation]) -> None:
        assert get_ident() == self._thread, "a write transaction belongs to one thread"
        applied = False
        try:
            for operation in operations:
                _check(operation)
                if isinstance(operation, Expect):
                    self._expect(operation)
                else:
                    applied = True
                    self._apply(operation)
        except lmdb.MapFullError as error:
            raise MapFull from error
        except lmdb.Error as error:
            # Nothing has been synced yet: what was written so far are pages that no committed tree refers to.
            if is_disk_full(error):
                raise StoreFull(f"the disk of {self._environment.path} is full; free some space") from error
            raise self._failed(error) from error
        except Exception as error:
            raise BatchRefused(error, undo=applied) from error

    def commit(self) -> None:
        assert get_ident() == self._thread, "a write transaction belongs to one thread"
        check_space(self._environment.path, STORE_FREE_MIN + 2 * self._written)
        meta = self._tables[Table.META]
        try:
            if not self._marked:
                self._mark = own_mark()
                self._txn.put(self._mark, _MARK_VALUE, db=meta)
            if self._next_id is not None:
                self._txn.put(NEXT_ID_KEY, chunks.INLINE + self._next_id.to_bytes(8, "big"), db=meta)
            self._txn.commit()
        except lmdb.MapFullError as error:
            raise MapFull from error
        except lmdb.Error as error:
            raise self._failed(error) from error
        self._txn = None
        self._marked = True

    def abort(self) -> None:
        txn, self._txn = self._txn, None
        if txn is not None:
            txn.abort()

    def grow(self) -> None:
        size = self._env.info()["map_size"]
        check_space(self._environment.path, STORE_FREE_MIN)
        self._resize_on_loop(2 * size)

    def sweep(self) -> None:
        try:
            self._env.reader_check()
        except lmdb.Error as error:
            raise self._failed(error) from error

    def finish(self) -> None:
        if self._marked:
            try:
                with self._env.begin(write=True) as txn:
                    txn.delete(self._mark, db=self._tables[Table.META])
            except lmdb.MapResizedError:
                # Another process has grown the map; it verifies once more at the next opening, which is harmless.
                pass
            except lmdb.Error as error:
                raise self._failed(error) from error

    def _apply(self, operation: Put | Delete | DeleteRange | CopyPrefix | AddCounters) -> None:
        if isinstance(operation, Put):
            self._put(operation.table, operation.key, operation.value)
        elif isinstance(operation, Delete):
            self._delete(operation.table, operation.key)
        elif isinstance(operation, AddCounters):
            table, key = operation.table, operation.key
            self._put(table, key, add_counters(self._read(table, key), operation.counters))
        elif isinstance(operation, CopyPrefix):
            self._copy_prefix(operation.table, operation.prefix, operation.to)
        else:
            self._delete_range(operation.table, operation.start, operation.end)

    def _expect(self, operation: Expect) -> None:
        if self._read(operation.table, operation.key) != operation.value:
            raise Conflict(
                f"{operation.table} key {operation.key!r} does not hold what the batch expects; nothing was written"
            )

    def _read(self, table: Table, key: bytes) -> bytes | None:
        place = long_keys.find(self._txn, self._tables[table], self._nodes, key)
        entry = None if place is None else self._txn.get(place.key, None, place.database)
        return None if entry is None else chunks.read(self._txn, self._chunks, entry)

    def _put(self, table: Table, key: bytes, value: bytes) -> None:
        txn, database = self._txn, self._tables[table]
        if len(key) > long_keys.SPLIT:
            database, key = long_keys.make(txn, database, self._nodes, key, self._new_id)
        old = txn.replace(key, chunks.write(txn, self._chunks, value, self._new_id), db=database)
        if old is not None:
            chunks.free(txn, self._chunks, old)
        self._written += len(key) + len(value)

    def _delete(self, table: Table, key: bytes) -> None:
        txn, database = self._txn, self._tables[table]
        place = long_keys.find(txn, database, self._nodes, key)
        entry = None if place is None else txn.pop(place.key, db=place.database)
        if entry is not None:
            chunks.free(txn, self._chunks, entry)
            if len(key) > long_keys.SPLIT:
                long_keys.prune(txn, database, self._nodes, key)

    def _delete_range(self, table: Table, start: bytes, end: bytes) -> None:
        while True:
            found = long_keys.walk(self._txn, self._tables[table], self._nodes, start, end, reverse=False, values=False)
            doomed = [key for key, _ in islice(found, _AT_ONCE)]
            for key in doomed:
                self._delete(table, key)
            if len(doomed) < _AT_ONCE:
                return

    def _copy_prefix(self, table: Table, prefix: bytes, to: bytes) -> None:
        start, end = prefix, end_of_prefix(prefix)
        while True:
            # Nothing is written while a cursor walks.
            found = long_keys.walk(self._txn, self._tables[table], self._nodes, start, end, reverse=False, values=False)
            copied = [key for key, _ in islice(found, _AT_ONCE)]
            for key in copied:
                value = self._read(table, key)
                assert value is not None
                check_key(to + key[len(prefix) :])
                self._put(table, to + key[len(prefix) :], value)
            if len(copied) < _AT_ONCE:
                return
            start = copied[-1] + b"\x00"

    def _new_id(self) -> bytes:
        if self._next_id is None:
            stored = self._txn.get(NEXT_ID_KEY, None, self._tables[Table.META])
            self._next_id = 1 if stored is None else int.from_bytes(stored[1:], "big")
        identity = self._next_id.to_bytes(long_keys.ID_BYTES, "big")
        self._next_id += 1
        return identity

    def _failed(self, error: lmdb.Error) -> StoreFailed:
        note_failure(self._environment.path)
        return write_error(error)

    def _resize_on_loop(self, size: int) -> None:
        """Let the loop's thread change the map, at a moment when nothing there reads, and wait for it."""
        done = Event()
        errors: list[lmdb.Error] = []

        def resize() -> None:
            try:
                self._env.set_mapsize(size)
            except lmdb.Error as error:
                errors.append(error)
            done.set()

        try:
            self._token.run_sync_soon(self._when_unread, resize)
            while not done.wait(_LOOP_CHECK_S):
                self._token.run_sync_soon(_nothing)
        except trio.RunFinishedError:
            # No loop, so nothing reads.
            if not done.is_set():
                resize()
        if errors:
            raise self._failed(errors[0]) from errors[0]


def _check(operation: Operation) -> None:
    if isinstance(operation, Put):
        check_entry(operation.key, operation.value)
    elif isinstance(operation, CopyPrefix):
        check_copy(operation.prefix, operation.to)
    elif not isinstance(operation, DeleteRange):
        check_key(operation.key)


def _nothing() -> None: ...
