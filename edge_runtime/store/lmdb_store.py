"""The store on LMDB: reads from the memory map on the event loop's thread, writes by the committer.

Several processes may have the same directory open; each commits for itself and sees what the others have committed with
each new snapshot. Within a process a directory is opened once. A store must not be used across a fork: LMDB would let
it, and destroy data, so the child's copy refuses.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn
from weakref import WeakSet

import lmdb
import trio

from edge_runtime.errors import StoreError, StoreFailed
from edge_runtime.limits import MAP_SIZE
from edge_runtime.promise import Promise
from edge_runtime.store import long_keys
from edge_runtime.store.api import Batch, Snapshot, Table
from edge_runtime.store.committer import Committer
from edge_runtime.store.lmdb_environment import (
    Environment,
    open_environment,
    raise_read_error,
    translated,
    verify,
)
from edge_runtime.store.lmdb_reader import LmdbReader, LmdbSnapshot
from edge_runtime.store.lmdb_writer import LmdbWriter

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


class LmdbStore:
    """An open data directory; see `api.Store`. Made by `open_store`.

    A store opened read-only refuses commits, never creates anything, and reads as empty until there is something.
    """

    def __init__(self, path: Path, environment: Environment | None, *, readonly: bool, map_size: int) -> None:
        self.path = path
        self.readonly = readonly
        self._reader = LmdbReader(path, environment, map_size=map_size)
        self._committer: Committer | None = None
        self._failed: Promise[None] = Promise()

    @property
    def failed(self) -> Promise[None]:
        return self._failed

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        return LmdbSnapshot(self._reader)

    def get(self, table: Table, key: bytes) -> bytes | None:
        # The way of nearly all reads: a short key, a small value, no other process growing the map.
        reader = self._reader
        if 0 < len(key) <= _SPLIT and reader.tables:
            try:
                txn = reader.begin(reader.tables[table])
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
        environment = self._reader.opened()
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
        environment = self._reader.opened()
        if environment is None:
            return 0
        txn = self._reader.begin_read()
        try:
            return verify(environment, txn, every_key=True)
        finally:
            txn.abort()
            self._reader.end_read()

    async def close(self) -> None:
        """Commit everything queued, then close; called by `open_store`. The wait cannot be cancelled."""
        if self._committer is not None:
            self._committer.refuse()
            self._reader.hold_up_nobody()
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._committer.join)
        environment = self._reader.environment
        if environment is not None:
            self._detach("the store is closed")
            environment.lmdb.close()
        _open_stores.discard(self)

    def _start(self, token: trio.lowlevel.TrioToken) -> None:
        environment = self._reader.environment
        assert environment is not None
        writer = LmdbWriter(environment, token, self._reader.when_unread)
        self._committer = Committer(writer, token, self._failed_commit)
        self._committer.start()

    def _detach(self, reason: str) -> Environment | None:
        """Refuse every use from now on; returns what was open."""
        self._committer = None
        return self._reader.detach(reason)

    def _failed_commit(self, error: StoreFailed) -> None:
        self._failed.reject(error)

    def _refuse_commit(self) -> NoReturn:
        raise StoreError(f"{self.path}: {self._reader.closed or 'the store was opened to be read only'}")


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
    reason = "the store was opened before a fork, by the parent process; open it again in the child"
    _inherited.extend(store._detach(reason) for store in _open_stores)
    _open_stores.clear()


os.register_at_fork(after_in_child=_disown_inherited)
