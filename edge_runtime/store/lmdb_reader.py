"""Reading from LMDB: the environment once there is one, counted read transactions on it, and snapshots.

The map may move when it grows, so nothing of this process may read then: what makes it grow waits for the readers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import lmdb

from edge_runtime.errors import StoreError
from edge_runtime.store import chunks, long_keys
from edge_runtime.store.api import Table
from edge_runtime.store.lmdb_environment import (
    Environment,
    as_grown,
    open_environment,
    raise_read_error,
    translated,
)
from edge_runtime.store.operations import check_key


class LmdbReader:
    """The readers' side of an open data directory. On the event loop's thread."""

    def __init__(self, path: Path, environment: Environment | None, *, map_size: int) -> None:
        """Without an environment it is looked for, to be read only, whenever something is to be read."""
        self.path = path
        self.environment: Environment | None = None
        self.tables: dict[Table, Any] = {}
        """Empty while there is nothing to read."""
        self.begin: Callable[[Any], Any] = self._begin_nothing
        """`begin(database)` gives a read transaction that is not counted: it has to end within the same step."""
        self.closed: str | None = None
        """Why nothing can be read any more."""
        self._map_size = map_size
        self._reading = 0
        self._waiting: list[Callable[[], None]] = []
        self._closing = False
        if environment is not None:
            self._attach(environment)

    def _attach(self, environment: Environment) -> None:
        self.environment = environment
        self.tables = environment.tables
        self.begin = environment.lmdb.begin

    def detach(self, reason: str) -> Environment | None:
        """Refuse to read from now on; returns what is to be closed."""
        environment, self.environment = self.environment, None
        self.closed = reason
        self.tables = {}
        self.begin = self._begin_nothing
        return environment

    def hold_up_nobody(self) -> None:
        """The store closes: snapshots that somebody forgot must not hold up a commit that waits for the map to grow."""
        self._closing = True
        self._run_waiting()

    def opened(self) -> Environment | None:
        """The environment; None if it does not exist yet."""
        if self.closed is not None:
            raise StoreError(f"{self.path}: {self.closed}")
        if self.environment is None:
            environment = open_environment(self.path, readonly=True, map_size=self._map_size)
            if environment is not None:
                self._attach(environment)
        return self.environment

    def begin_read(self) -> Any:
        """A read transaction, counted; `end_read` must follow."""
        try:
            txn = self.begin(None)
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
        assert self.environment is not None
        with translated(f"cannot read {self.path}"):
            return as_grown(self.environment.lmdb, lambda: self.begin(None))

    def end_read(self) -> None:
        self._reading -= 1
        if not self._reading and self._waiting:
            self._run_waiting()

    def when_unread(self, fn: Callable[[], None]) -> None:
        """Call `fn` once nothing of this process reads, or the store closes."""
        if self._reading and not self._closing:
            self._waiting.append(fn)
        else:
            fn()

    def _run_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for fn in waiting:
            fn()

    def _begin_nothing(self, database: Any) -> NoReturn:
        raise StoreError(f"{self.path}: {self.closed}")


class LmdbSnapshot:
    """A read transaction, begun by `with`; see `api.Snapshot`. Without an environment, of an empty store."""

    __slots__ = ("_chunks", "_nodes", "_reader", "_tables", "_txn")

    def __init__(self, reader: LmdbReader) -> None:
        self._reader = reader
        self._txn: Any = None
        self._tables: dict[Table, Any] | None = None

    def __enter__(self) -> LmdbSnapshot:
        environment = self._reader.opened()
        self._tables = {}
        if environment is not None:
            self._txn = self._reader.begin_read()
            self._tables = environment.tables
            self._nodes = environment.nodes
            self._chunks = environment.tables[Table.CHUNKS]
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._txn is not None:
            self._txn.abort()
            self._txn = None
            self._reader.end_read()
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
