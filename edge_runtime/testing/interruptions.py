"""Where a process can be interrupted, and the store that lets it be interrupted there."""

from __future__ import annotations

from contextlib import AbstractContextManager
from enum import StrEnum
from typing import NamedTuple

import trio

from edge_runtime.errors import UsageError
from edge_runtime.promise import Promise
from edge_runtime.store.api import Batch, Snapshot, Table
from edge_runtime.store.memory_store import MemoryStore


class How(StrEnum):
    """A process that is killed loses everything that is not committed; one that is suspended gives its instances up in
    good order, as an eviction does. At rest: when every task waits, so inside of what the script awaits. Evicted: the
    process lives on, and no instance stays in memory while it waits."""

    KILLED_BEFORE = "killed before commit"
    KILLED_AFTER = "killed after commit"
    SUSPENDED_AFTER = "suspended after commit"
    KILLED_AT_REST = "killed at rest"
    SUSPENDED_AT_REST = "suspended at rest"
    EVICTED = "evicted whenever it waits"

    @property
    def at_rest(self) -> bool:
        return self in (How.KILLED_AT_REST, How.SUSPENDED_AT_REST)

    @property
    def suspends(self) -> bool:
        return self in (How.SUSPENDED_AFTER, How.SUSPENDED_AT_REST)


class Point(NamedTuple):
    """A moment of a process: its nth commit, or the nth time it rests; 0 where `how` needs no number. `str(point)` and
    `Point.read` are each other's opposite."""

    how: How
    number: int

    def __str__(self) -> str:
        return f"{self.how} {self.number}" if self.number else self.how.value

    @classmethod
    def read(cls, text: str) -> Point:
        if text == How.EVICTED:
            return cls(How.EVICTED, 0)
        how, _, number = text.rpartition(" ")
        if how not in list(How) or how == How.EVICTED or not number.isdecimal():
            raise UsageError(f'point: found "{text}"; allowed: {", ".join(How)}, followed by a number')
        return cls(How(how), int(number))


class PacedStore:
    """`api.Store` in which every batch is a commit of its own, done when `commit_next` is called.

    After `die` nothing is committed and no promise settles, as nobody is left to settle it.
    """

    def __init__(self, inner: MemoryStore) -> None:
        self.inner = inner
        self._dead = False
        self._wanted = trio.Event()

    @property
    def failed(self) -> Promise[None]:
        return self.inner.failed

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        return self.inner.snapshot()

    def get(self, table: Table, key: bytes) -> bytes | None:
        return self.inner.get(table, key)

    def commit(self, batch: Batch) -> Promise[None]:
        if self._dead:
            return Promise()
        self._wanted.set()
        return self.inner.commit(batch)

    async def wait_wanted(self) -> None:
        """Return when a batch is queued."""
        while not self.inner.queued:
            self._wanted = trio.Event()
            await self._wanted.wait()
        await trio.lowlevel.checkpoint()

    def die(self) -> None:
        self._dead = True

    def commit_next(self) -> None:
        self.inner.commit_group(1)
