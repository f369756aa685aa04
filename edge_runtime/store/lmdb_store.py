"""The store on LMDB: reads from the memory map on the event loop's thread, writes by the committer.

Several processes may have the same directory open; each commits for itself and sees what the others have committed with
each new snapshot. Within a process a directory is opened once. A store must not be used across a fork: LMDB would let
it, and destroy data, so the child's copy refuses.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn
from weakref import WeakSet

import lmdb
import trio

from edge_runtime.errors import StoreError, StoreFailed
from edge_runtime.limits import MAP_SIZE
from edge_runtime.promise import Promise
from edge_runtime.store import chunks, long_keys
from edge_runtime.store.api import Batch, Snapshot, Table
from edge_runtime.store.committer import Committer
from edge_runtime.store.lmdb_environment import (
    Environment,
    as_grown,
    open_environment,
    raise_read_error,
    translated,
    verify,
)
from edge_runtime.store.lmdb_writer import LmdbWriter
from edge_runtime.store.operations import check_key

_SPLIT: Final = long_keys.SPLIT


@dataclass(frozen=True, slots=True)
class StoreStatistics:
    """What an operator may want to know. `used_bytes` counts pages up to the last used one, free ones included.

    `oldest_reader_lag` is how many commits ago the oldest snapshot of any process was taken; a number that keeps
    growing is a stuck reader, and the file grows with it.
    """

    map_bytes: int
    used_bytes: int
    readers: int
    oldest_reader_lag: int
    groups: int
    commits: int
    """By all processes, since the store was made."""


class LmdbSnapshot:
    """A read transaction, begun by `with`; see `api.Snapshot`. Without an environment, of an empty store."""

    __slots__ = ("_chunks", "_nodes", "_store", "_tables", "_txn")

    def __init__(self, store: LmdbStore) -> None:
        self._store = store
        self._txn: Any = None
        self._tables: dict[Table, Any] | None = None

    def __enter__(self) -> LmdbSnapshot:
        environment = self._store._readable()
        self._tables = {}
        if environment is not None:
            self._txn = self._store._begin_read()
            self._tables = environment.tables
            self._nodes = environment.nodes
            self._chunks = environment.tables[Table.CHUNKS]
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._txn is not None:
            self._txn.abort()
            self._txn = None
            self._store._end_read()
        self._tables = None

    def get(self, table: Table, key: bytes) -> bytes | None:
        check_key(key)
        tables, txn = self._opened(), self._txn
        if not tables:
            return None
        try:
            place = long_keys.find(txn, tables[table], self._nodes, key)
            entry = None if place is None else txn.get(place.key, None, place.database)
            return None if entry is None else chunks.read(txn, self._chunks, entry)
        except lmdb.Error as error:
            raise_read_error(f"cannot read {table}", error)

    def scan(
        self, table: Table, start: bytes = b"", end: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        if tables := self._opened():
            txn, pieces = self._txn, self._chunks
            try:
                for key, entry in self._walk(tables[table], start, end, reverse, values=True):
                    yield key, entry[1:] if entry and not entry[0] else chunks.read(txn, pieces, entry)
            except lmdb.Error as error:
                raise_read_error(f"cannot read {table}", error)

    def keys(
        self, table: Table, start: bytes = b"", end: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[bytes]:
        if tables := self._opened():
            try:
                for key, _ in self._walk(tables[table], start, end, reverse, values=False):
                    yield key
            except lmdb.Error as error:
                raise_read_error(f"cannot read {table}", error)

    def _walk(
        self, database: Any, start: bytes, end: bytes | None, reverse: bool, *, values: bool
    ) -> Iterator[tuple[bytes, bytes]]:
        return long_keys.walk(self._txn, database, self._nodes, start, end, reverse=reverse, values=values)

    def _opened(self) -> dict[Table, Any]:
        """The tables; none if nothing exists yet."""
        if self._tables is None:
            raise StoreError("a snapshot was read outside of its with block")
        return self._tables


class LmdbStore:
    """An open data directory; see `api.Store`. Made by `open_store`.

    A store opened read-only refuses commits, never creates anything, and reads as empty until there is something.
    """

    def __init__(self, path: Path, environment: Environment | None, *, readonly: bool, map_size: int) -> None:
        self.path = path
        self.readonly = readonly
        self._map_size = map_size
        self._environment: Environment | None = None
        self._committer: Committer | None = None
        self._failed: Promise[None] = Promise()
        self._reading = 0
        self._when_unread: list[Callable[[], None]] = []
        self._begin: Callable[[Any], Any] = self._begin_nothing
        self._tables: dict[Table, Any] = {}
        self._closing = False
        self._closed: str | None = None
        if environment is not None:
            self._attach(environment)

    @property
    def failed(self) -> Promise[None]:
        return self._failed

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        return LmdbSnapshot(self)

    def get(self, table: Table, key: bytes) -> bytes | None:
        # The way of nearly all reads: a short key, a small value, no other process growing the map.
        if 0 < len(key) <= _SPLIT and self._tables:
            try:
                txn = self._begin(self._tables[table])
                entry: bytes | None = txn.get(key)
                txn.abort()
            except lmdb.MapResizedError:
                pass
            except lmdb.Error as error:
                raise_read_error(f"cannot read {table} of {self.path}", error)
            else:
                if entry is None:
                    return None
                if entry and entry[0] == 0:
                    return entry[1:]
        with self.snapshot() as snapshot:
            return snapshot.get(table, key)

    def commit(self, batch: Batch) -> Promise[None]:
        if self._committer is None:
            self._refuse_commit()
        return self._committer.submit(batch)

    def before_group(self, callback: Callable[[], None]) -> None:
        """Call `callback()` on the loop's thread before each group commit from now on; what it commits goes with it,
        at no fsync of its own."""
        if self._committer is None:
            self._refuse_commit()
        self._committer.before_group = callback

    def statistics(self) -> StoreStatistics:
        """A few system calls and a walk over the table of readers."""
        environment = self._readable()
        if environment is None:
            return StoreStatistics(0, 0, 0, 0, 0, 0)
        with translated("cannot read the store"):
            info = environment.lmdb.info()
            lines = environment.lmdb.readers().splitlines()[1:]
        taken = [int(fields[2]) for line in lines if len(fields := line.split()) == 3 and fields[2].isdigit()]
        return StoreStatistics(
            map_bytes=info["map_size"],
            used_bytes=(info["last_pgno"] + 1) * environment.lmdb.stat()["psize"],
            readers=len(taken),
            oldest_reader_lag=max((info["last_txnid"] - at for at in taken), default=0),
            groups=0 if self._committer is None else self._committer.groups,
            commits=info["last_txnid"],
        )

    def verify(self) -> int:
        """Read every key of every table in order and check every entry's form; how many there are.

        Takes as long as reading the file's tree. Raises StoreCorrupt naming table and key.
        """
        environment = self._readable()
        if environment is None:
            return 0
        txn = self._begin_read()
        try:
            return verify(environment, txn, every_key=True)
        finally:
            txn.abort()
            self._end_read()

    async def close(self) -> None:
        """Commit everything queued, then close; called by `open_store`. The wait cannot be cancelled."""
        if self._committer is not None:
            self._committer.refuse()
            # Snapshots that somebody forgot must not hold up a commit that waits for the map to grow.
            self._closing = True
            self._run_waiting()
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._committer.join)
        environment = self._environment
        if environment is not None:
            self._detach("the store is closed")
            environment.lmdb.close()
        _open_stores.discard(self)

    def _start(self, token: trio.lowlevel.TrioToken) -> None:
        assert self._environment is not None
        writer = LmdbWriter(self._environment, token, self._run_unread)
        self._committer = Committer(writer, token, self._failed_commit)
        self._committer.start()

    def _attach(self, environment: Environment) -> None:
        self._environment = environment
        self._tables = environment.tables
        self._begin = environment.lmdb.begin

    def _detach(self, reason: str) -> None:
        self._closed = reason
        self._committer = None
        self._environment = None
        self._tables = {}
        self._begin = self._begin_nothing

    def _failed_commit(self, error: StoreFailed) -> None:
        self._failed.reject(error)

    def _readable(self) -> Environment | None:
        """The environment; None if it does not exist yet."""
        if self._closed is not None:
            raise StoreError(f"{self.path}: {self._closed}")
        if self._environment is None:
            environment = open_environment(self.path, readonly=True, map_size=self._map_size)
            if environment is not None:
                self._attach(environment)
        return self._environment

    def _begin_read(self) -> Any:
        """A read transaction, counted; `_end_read` must follow."""
        try:
            txn = self._begin(None)
        except lmdb.MapResizedError:
            txn = self._begin_after_growth()
        except lmdb.Error as error:
            raise_read_error(f"cannot read {self.path}", error)
        self._reading += 1
        return txn

    def _begin_after_growth(self) -> Any:
        """Adopt the map as another process made it. Not possible below a reader, as the map may move."""
        if self._reading:
            raise StoreError(f"{self.path} was grown by another process while a snapshot is open; close that first")
        assert self._environment is not None
        with translated(f"cannot read {self.path}"):
            return as_grown(self._environment.lmdb, lambda: self._begin(None))

    def _end_read(self) -> None:
        self._reading -= 1
        if not self._reading and self._when_unread:
            self._run_waiting()

    def _run_unread(self, fn: Callable[[], None]) -> None:
        if self._reading and not self._closing:
            self._when_unread.append(fn)
        else:
            fn()

    def _run_waiting(self) -> None:
        waiting, self._when_unread = self._when_unread, []
        for fn in waiting:
            fn()

    def _begin_nothing(self, database: Any) -> NoReturn:
        raise StoreError(f"{self.path}: {self._closed}")

    def _refuse_commit(self) -> NoReturn:
        raise StoreError(f"{self.path}: {self._closed or 'the store was opened to be read only'}")


@asynccontextmanager
async def open_store(path: Path, *, readonly: bool = False, map_size: int = MAP_SIZE) -> AsyncIterator[LmdbStore]:
    """Open the store in the directory `path`, creating it unless `readonly`. At the end, what is queued is committed.

    Raises StoreError if the directory cannot be used, StoreCorrupt if a verification after a crash found damage.
    """
    environment = await trio.to_thread.run_sync(lambda: open_environment(path, readonly=readonly, map_size=map_size))
    async with store_on(environment, path, readonly=readonly, map_size=map_size) as store:
        yield store


@asynccontextmanager
async def store_on(
    environment: Environment | None, path: Path, *, readonly: bool = False, map_size: int = MAP_SIZE
) -> AsyncIterator[LmdbStore]:
    """The store on an environment that was opened before; `open_store` without its thread.

    For a process that has nothing else to do yet: the first thread of a freshly forked process costs it a millisecond.
    """
    store = LmdbStore(path, environment, readonly=readonly, map_size=map_size)
    _open_stores.add(store)
    if not readonly:
        store._start(trio.lowlevel.current_trio_token())
    try:
        yield store
    finally:
        await store.close()


_open_stores: WeakSet[LmdbStore] = WeakSet()
_inherited: list[Environment | None] = []


def _disown_inherited() -> None:
    """In the child of a fork: refuse use, and never let the environments be closed, which is LMDB's too."""
    for store in _open_stores:
        _inherited.append(store._environment)
        store._detach("the store was opened before a fork, by the parent process; open it again in the child")
    _open_stores.clear()


os.register_at_fork(after_in_child=_disown_inherited)
