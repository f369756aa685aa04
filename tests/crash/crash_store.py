"""What a data directory holds, read from outside while its server runs or is dead."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import lmdb
import trio
from edge_process import EDGE

from edge_runtime.actors import timers
from edge_runtime.store import keys
from edge_runtime.store.api import Snapshot, Table
from edge_runtime.store.lmdb_store import open_store
from edge_runtime.workflows.core.journal import Entry, StepStarted, StepSucceeded
from edge_runtime.workflows.stored import blocks, instances

T = TypeVar("T")


@dataclass(frozen=True)
class Instance:
    """A workflow instance as its journal has it."""

    status: str
    entries: list[Entry]

    @property
    def recorded(self) -> set[str]:
        """Steps whose result is recorded, as the server's log lines name them."""
        return {str(entry.key) for entry in self.entries if isinstance(entry, StepSucceeded)}

    def started(self, step: str) -> StepStarted:
        return next(entry for entry in self.entries if isinstance(entry, StepStarted) and str(entry.key) == step)

    def has(self, step: str) -> bool:
        """Whether the step was asked for."""
        return any(isinstance(entry, StepStarted) and str(entry.key) == step for entry in self.entries)


def read(data: Path, fn: Callable[[Snapshot], T]) -> T:
    async def read_store() -> T:
        async with open_store(data / "store", readonly=True) as store:
            with store.snapshot() as snapshot:
                return fn(snapshot)

    return trio.run(read_store)


def read_instances(data: Path) -> dict[str, Instance]:
    """Every workflow instance by id; raises JournalBroken if a journal is not the chain it should be."""

    def load(snapshot: Snapshot) -> dict[str, Instance]:
        return {
            id: Instance(record.status.value, blocks.load(snapshot, worker, workflow, id, record.seq).entries)
            for worker, workflow in instances.workflows(snapshot)
            for id, record in instances.scan(snapshot, worker, workflow)
        }

    return read(data, load)


def assert_sound(data: Path) -> None:
    """The doctor finds nothing, every entry is in order, and the indexes agree with what they index."""
    doctor = subprocess.run([*EDGE, "doctor", "--data", data], capture_output=True, text=True, check=False)
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr

    async def verify() -> None:
        async with open_store(data / "store", readonly=True) as store:
            store.verify()

    trio.run(verify)
    read(data, _assert_indexes_agree)


def _assert_indexes_agree(snapshot: Snapshot) -> None:
    status, records = set(), {}
    for key in snapshot.keys(Table.INSTANCES):
        index, worker, workflow, *rest = keys.decode(key)
        if index == "r":
            records[worker, workflow, rest[0]] = instances.decode(snapshot.get(Table.INSTANCES, key))
        elif index == "s":
            status.add((worker, workflow, *rest))
    by_status = {
        (worker, workflow, found.status.value, found.created_ms, id)
        for (worker, workflow, id), found in records.items()
    }
    assert status == by_status
    due = set()
    for key, stored in snapshot.scan(Table.ACTORS):
        worker, kind, namespace, id = keys.decode(key)
        record = timers.decode_record(stored)
        if record.due_ms is not None:
            due.add((worker, record.due_ms, kind, namespace, id))
    own = {decoded for key in snapshot.keys(Table.TIMERS) if len(decoded := keys.decode(key)) == 5}
    assert own == due


class CommitWatch:
    """The number of commits since this was made, as the store's metadata show it."""

    def __init__(self, data: Path) -> None:
        self._environment = lmdb.open(str(data / "store"), readonly=True, create=False)
        self._first = self._last_id()

    def _last_id(self) -> int:
        found: int = self._environment.info()["last_txnid"]
        return found

    @property
    def commits(self) -> int:
        return self._last_id() - self._first

    def __enter__(self) -> CommitWatch:
        return self

    def __exit__(self, *_: object) -> None:
        self._environment.close()
