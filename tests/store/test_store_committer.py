"""Groups, refusals, growth and failures of the committer, on a writer that fails where it is told to."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio

from edge_runtime.errors import Conflict, StoreFailed, StoreFull
from edge_runtime.limits import COMMIT_BATCHES_MAX, STORE_SWEEP_GROUPS
from edge_runtime.promise import Promise
from edge_runtime.store.api import Batch, Operation, Put, Table
from edge_runtime.store.committer import BatchRefused, Committer, MapFull

KV = Table.KV


class ScriptedWriter:
    """Keeps committed keys in a list. `errors` maps the number of a call, from 1, to what it raises."""

    def __init__(self, errors: dict[int, Exception] | None = None, capacity: int = 1_000_000) -> None:
        self.errors = errors or {}
        self.capacity = capacity
        self.calls = 0
        self.durable: list[bytes] = []
        self.applied: list[bytes] | None = None
        self.groups: list[int] = []
        self.threads: set[int] = set()
        self.finished = False
        self.sweeps = 0
        self.may_commit = threading.Event()
        self.may_commit.set()

    def begin(self) -> None:
        assert self.applied is None
        self._call()
        self.applied = []

    def apply(self, operations: list[Operation]) -> None:
        assert self.applied is not None
        for count, operation in enumerate(operations):
            assert isinstance(operation, Put)
            if operation.key.startswith(b"conflict"):
                raise BatchRefused(Conflict("no"), undo=count > 0)
            self.applied.append(operation.key)
        self._call()
        if len(self.durable) + len(self.applied) > self.capacity:
            raise MapFull

    def commit(self) -> None:
        assert self.applied is not None
        self.may_commit.wait()
        self._call()
        self.groups.append(len(self.applied))
        self.durable += self.applied
        self.applied = None

    def abort(self) -> None:
        self.applied = None

    def grow(self) -> None:
        assert self.applied is None
        self._call()
        self.capacity *= 2

    def sweep(self) -> None:
        assert self.applied is None
        self.sweeps += 1

    def finish(self) -> None:
        assert self.applied is None
        self.finished = True

    def _call(self) -> None:
        self.threads.add(threading.get_ident())
        self.calls += 1
        if self.calls in self.errors:
            raise self.errors[self.calls]


Failures = list[StoreFailed]


@asynccontextmanager
async def running(writer: ScriptedWriter) -> AsyncIterator[tuple[Committer, Failures]]:
    failures: Failures = []
    committer = Committer(writer, trio.lowlevel.current_trio_token(), failures.append)
    committer.start()
    try:
        yield committer, failures
    finally:
        writer.may_commit.set()
        committer.refuse()
        await trio.to_thread.run_sync(committer.join)


def put(key: bytes, *more: bytes) -> Batch:
    batch = Batch()
    for name in (key, *more):
        batch.put(KV, name, b"")
    return batch


async def outcome(promise: Promise[None]) -> type[Exception] | None:
    try:
        await promise
    except Exception as error:
        return type(error)
    return None


async def test_what_queues_up_during_a_commit_is_the_next_group() -> None:
    writer = ScriptedWriter()
    writer.may_commit.clear()
    async with running(writer) as (committer, _):
        first = committer.submit(put(b"0"))
        while writer.applied is None:
            await trio.sleep(0.001)
        rest = [committer.submit(put(b"%d" % number)) for number in range(1, 64)]
        writer.may_commit.set()
        for promise in (first, *rest):
            await promise
    assert writer.groups == [1, 63]
    assert writer.durable == [b"%d" % number for number in range(64)]


async def test_a_group_is_bounded() -> None:
    writer = ScriptedWriter()
    writer.may_commit.clear()
    async with running(writer) as (committer, _):
        promises = [committer.submit(put(b"%d" % number)) for number in range(COMMIT_BATCHES_MAX + 100)]
        writer.may_commit.set()
        await promises[-1]
    assert max(writer.groups) <= COMMIT_BATCHES_MAX
    assert len(writer.durable) == COMMIT_BATCHES_MAX + 100


async def test_dead_readers_are_looked_for_under_traffic_too() -> None:
    writer = ScriptedWriter()
    async with running(writer) as (committer, _):
        for number in range(STORE_SWEEP_GROUPS * 2 + 1):
            await committer.submit(put(b"%d" % number))
    assert writer.sweeps == 2


async def test_transactions_stay_on_the_committers_thread() -> None:
    writer = ScriptedWriter()
    async with running(writer) as (committer, _):
        for number in range(5):
            await committer.submit(put(b"%d" % number))
    assert len(writer.threads) == 1
    assert threading.get_ident() not in writer.threads


@pytest.mark.parametrize("undone", [False, True])
async def test_a_refused_batch_leaves_nothing_and_harms_no_other(undone: bool) -> None:
    writer = ScriptedWriter()
    writer.may_commit.clear()
    bad = put(b"partly", b"conflict") if undone else put(b"conflict")
    async with running(writer) as (committer, failures):
        promises = [committer.submit(batch) for batch in (put(b"a"), bad, put(b"b"), bad, put(b"c"))]
        writer.may_commit.set()
        assert [await outcome(promise) for promise in promises] == [None, Conflict, None, Conflict, None]
    assert writer.durable == [b"a", b"b", b"c"]
    assert not failures


async def test_a_full_map_grows_until_the_group_fits() -> None:
    writer = ScriptedWriter(capacity=1)
    async with running(writer) as (committer, failures):
        promises = [committer.submit(put(b"%d" % number)) for number in range(50)]
        assert {await outcome(promise) for promise in promises} == {None}
    assert writer.durable == [b"%d" % number for number in range(50)]
    assert not failures


async def test_a_full_disk_refuses_the_group_and_nothing_later() -> None:
    writer = ScriptedWriter({3: StoreFull("full")})
    async with running(writer) as (committer, failures):
        assert await outcome(committer.submit(put(b"a"))) is StoreFull
        assert await outcome(committer.submit(put(b"b"))) is None
    assert writer.durable == [b"b"]
    assert not failures


@pytest.mark.parametrize(
    "make", [lambda: StoreFailed("EIO"), lambda: RuntimeError("defect")], ids=["failed commit", "defect"]
)
async def test_after_the_nth_call_fails_nothing_more_is_acknowledged(make: Callable[[], Exception]) -> None:
    untouched = False
    number = 0
    while not untouched:
        number += 1
        writer = ScriptedWriter({number: make()}, capacity=6)
        async with running(writer) as (committer, failures):
            outcomes = [await outcome(committer.submit(put(b"%d" % key, b"x%d" % key))) for key in range(4)]
            promises = [committer.submit(put(b"last%d" % key)) for key in range(3)]
            outcomes += [await outcome(promise) for promise in promises]
            committer.submit(Batch())
        untouched = None in outcomes and StoreFailed not in outcomes
        acknowledged = outcomes.index(StoreFailed) if not untouched else len(outcomes)
        assert outcomes == [None] * acknowledged + [StoreFailed] * (len(outcomes) - acknowledged)
        assert len(writer.durable) == sum(2 if key < 4 else 1 for key in range(acknowledged))
        assert len(failures) == (0 if untouched else 1)
        assert writer.finished == untouched
        assert writer.applied is None
    assert number > 10


async def test_what_was_queued_at_the_end_is_committed() -> None:
    writer = ScriptedWriter()
    writer.may_commit.clear()
    async with running(writer) as (committer, _):
        promises = [committer.submit(put(b"%d" % number)) for number in range(20)]
    assert [await outcome(promise) for promise in promises] == [None] * 20
    assert await outcome(committer.submit(put(b"late"))) is StoreFailed
    assert writer.finished


def test_an_ended_loop_does_not_hang_the_thread() -> None:
    writer = ScriptedWriter()
    writer.may_commit.clear()

    async def main() -> Committer:
        committer = Committer(writer, trio.lowlevel.current_trio_token(), lambda error: None)
        committer.start()
        for number in range(3):
            committer.submit(put(b"%d" % number))
        return committer

    committer = trio.run(main)
    writer.may_commit.set()
    committer.refuse()
    committer.join()
    assert len(writer.durable) == 3
