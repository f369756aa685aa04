"""The model of the store: plain dicts and sorted lists, with the group commits and the crashes of the real one.

What `commit` queues is invisible until its group is committed: under trio at the loop's next turn, or, with
`manual=True`, when `commit_group` is called. What is committed is durable: `crash` keeps exactly that.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager

import trio

from edge_runtime.errors import EdgeError, StoreError, StoreFailed
from edge_runtime.limits import COMMIT_BATCHES_MAX
from edge_runtime.promise import Promise
from edge_runtime.store.api import Batch, Snapshot, Store, Table
from edge_runtime.store.changes import Changes, apply
from edge_runtime.store.operations import check_key


class _Entries:
    """One table: values by key, and the keys in order. Never changed while a snapshot shows it."""

    __slots__ = ("order", "values")

    def __init__(self, values: dict[bytes, bytes], order: list[bytes]) -> None:
        self.values = values
        self.order = order

    def between(self, start: bytes, end: bytes | None) -> tuple[int, int]:
        return bisect_left(self.order, start), len(self.order) if end is None else bisect_left(self.order, end)

    def changed(self, changes: dict[bytes, bytes | None]) -> _Entries:
        values = self.values.copy()
        for key, value in changes.items():
            if value is None:
                values.pop(key, None)
            else:
                values[key] = value
        return _Entries(values, self.order if values.keys() == self.values.keys() else sorted(values))


Image = dict[Table, _Entries]


class MemorySnapshot:
    """A view of one image; see `api.Snapshot`."""

    __slots__ = ("_image",)

    def __init__(self, image: Image) -> None:
        self._image: Image | None = image

    def __enter__(self) -> MemorySnapshot:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._image = None

    def get(self, table: Table, key: bytes) -> bytes | None:
        check_key(key)
        return self._entries(table).values.get(key)

    def scan(
        self, table: Table, start: bytes = b"", end: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        for key in self.keys(table, start, end, reverse=reverse):
            yield key, self._entries(table).values[key]

    def keys(
        self, table: Table, start: bytes = b"", end: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[bytes]:
        first, last = self._entries(table).between(start, end)
        places = range(first, last)
        for place in reversed(places) if reverse else places:
            yield self._entries(table).order[place]

    def _entries(self, table: Table) -> _Entries:
        if self._image is None:
            raise StoreError("a snapshot was read after its with block had ended")
        return self._image[table]


class MemoryStore:
    """A store that lives as long as its process; see `api.Store`.

    `groups` counts the commits done, which for the real store is the number of fsyncs.
    """

    def __init__(self, *, manual: bool = False, image: Image | None = None) -> None:
        self._image: Image = {table: _Entries({}, []) for table in Table} if image is None else dict(image)
        self._queue: deque[tuple[Batch, Promise[None]]] = deque()
        self._manual = manual
        self._hop_pending = False
        self._refusal: str | None = None
        self._failed: Promise[None] = Promise()
        self.groups = 0

    @property
    def failed(self) -> Promise[None]:
        return self._failed

    @property
    def queued(self) -> int:
        """Batches not committed yet."""
        return len(self._queue)

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        return MemorySnapshot(self._image)

    def get(self, table: Table, key: bytes) -> bytes | None:
        check_key(key)
        return self._image[table].values.get(key)

    def commit(self, batch: Batch) -> Promise[None]:
        if self._refusal is not None:
            return Promise.rejected(StoreFailed(self._refusal))
        promise: Promise[None] = Promise()
        sealed = Batch()
        sealed.operations = batch.operations.copy()
        self._queue.append((sealed, promise))
        if not self._manual and not self._hop_pending:
            self._hop_pending = True
            trio.lowlevel.current_trio_token().run_sync_soon(self._hop)
        return promise

    def commit_group(self, batches: int = COMMIT_BATCHES_MAX) -> int:
        """Commit at most so many of the queued batches as one group, settle their promises; how many there were."""
        group = [self._queue.popleft() for _ in range(min(batches, len(self._queue)))]
        if not group:
            return 0
        image = self._image
        refusals: dict[int, EdgeError] = {}
        for index, (batch, _) in enumerate(group):
            try:
                image = _apply(image, batch)
            except EdgeError as error:
                refusals[index] = error
        self._image = image
        self.groups += 1
        for index, (_, promise) in enumerate(group):
            if index in refusals:
                promise.reject(refusals[index])
            else:
                promise.resolve(None)
        return len(group)

    def fail(self) -> None:
        """Behave as after a failed commit: what is queued is refused, and so is every later batch."""
        self._refusal = "a commit failed; nothing more is written"
        queued, self._queue = self._queue, deque()
        for _, promise in queued:
            promise.reject(StoreFailed(self._refusal))
        self._failed.reject(StoreFailed(self._refusal))

    def crash(self) -> MemoryStore:
        """End this store as kill -9 would; the store that opens afterwards, with what was durable.

        Promises that are pending stay pending, as nobody is left to settle them; later commits are refused.
        """
        self._refusal = "the process that owned this store was killed"
        self._queue.clear()
        return MemoryStore(manual=self._manual, image=self._image)

    def paced(self) -> MemoryStore:
        """As `crash`; the store that opens afterwards commits when `commit_group` is called."""
        opened = self.crash()
        opened._manual = True
        return opened

    def close(self) -> None:
        """Commit everything that is queued; later commits are refused."""
        while self.commit_group():
            pass
        self._refusal = self._refusal or "the store is closed"

    def _hop(self) -> None:
        self._hop_pending = False
        self.commit_group()
        if self._queue and not self._hop_pending:
            self._hop_pending = True
            trio.lowlevel.current_trio_token().run_sync_soon(self._hop)


@asynccontextmanager
async def open_memory_store(store: MemoryStore | None = None) -> AsyncIterator[MemoryStore]:
    """A store that commits by itself, at the loop's next turn after a `commit`; or `store`, closed at the end."""
    opened = MemoryStore() if store is None else store
    await trio.lowlevel.checkpoint()
    try:
        yield opened
    finally:
        opened.close()


class FailingStore:
    """A store whose commits fail from the `fail_at`-th batch on, counted from 1.

    With `done`, that batch is written all the same: the failure that an answer lost on the way would be.
    """

    def __init__(self, inner: Store, fail_at: int, *, done: bool = False) -> None:
        self._inner = inner
        self._fail_at = fail_at
        self._done = done
        self._failed: Promise[None] = Promise()
        self.commits = 0

    @property
    def failed(self) -> Promise[None]:
        return self._failed

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        return self._inner.snapshot()

    def get(self, table: Table, key: bytes) -> bytes | None:
        return self._inner.get(table, key)

    def commit(self, batch: Batch) -> Promise[None]:
        self.commits += 1
        if self.commits < self._fail_at:
            return self._inner.commit(batch)
        promise: Promise[None] = Promise()

        def fail(_: Promise[None]) -> None:
            error = StoreFailed(f"commit {self.commits} was made to fail")
            promise.reject(error)
            if not self._failed.settled:
                self._failed.reject(error)

        written = batch if self._done and self.commits == self._fail_at else Batch()
        self._inner.commit(written).add_done_callback(fail)
        return promise


def _apply(image: Image, batch: Batch) -> Image:
    changes: Changes = {}
    with MemorySnapshot(image) as snapshot:
        apply(batch, snapshot, changes)
    return {
        table: entries.changed(found) if (found := changes.get(table)) else entries for table, entries in image.items()
    }
