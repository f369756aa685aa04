"""The committer: one thread, one transaction and one fsync for everything that was queued meanwhile.

The event loop's thread gathers batches for as long as it has something to run, at most COMMIT_GATHER_S, and hands them
over when it is about to wait. The committer's thread takes all there are, applies them in order, commits, and settles
their promises in one hop. So an idle loop commits at once, and a busy one shares its fsyncs and is seldom interrupted
by the other thread. What a transaction is, the `GroupWriter` knows.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic
from typing import Protocol

import trio

from edge_runtime.errors import StoreFailed, StoreFull
from edge_runtime.limits import COMMIT_BATCHES_MAX, COMMIT_GATHER_S, STORE_SWEEP_GROUPS, STORE_SWEEP_S
from edge_runtime.promise import Promise
from edge_runtime.store.api import Batch, Operation


class MapFull(Exception):
    """The transaction does not fit the map; it must be repeated after `GroupWriter.grow`."""


class BatchRefused(Exception):
    """One batch cannot be applied, for a reason (`error`) of its own. With `undo`, part of it has been applied."""

    def __init__(self, error: Exception, *, undo: bool) -> None:
        super().__init__(str(error))
        self.error = error
        self.undo = undo


class GroupWriter(Protocol):
    """Write transactions, used on the committer's thread only, one at a time."""

    def begin(self) -> None: ...

    def apply(self, operations: list[Operation]) -> None:
        """Raises BatchRefused, MapFull, StoreFull (nothing has reached the disk), StoreFailed."""

    def commit(self) -> None:
        """Make what was applied durable. Raises MapFull, StoreFull, StoreFailed."""

    def abort(self) -> None:
        """Undo what was applied since `begin`; also after a failed `commit`."""

    def grow(self) -> None:
        """Called between transactions after MapFull."""

    def sweep(self) -> None:
        """Called between transactions every so often."""

    def finish(self) -> None:
        """Called last, on the same thread, unless a commit has failed."""


Queued = tuple[list[Operation], Promise[None]]
Refusals = dict[int, Exception]
"""What is wrong with batches of a group, by their index in it."""


class _LoopPause(trio.abc.Instrument):
    """Ends the gathering of a group when the event loop pauses, or has not paused for too long."""

    def __init__(self, committer: Committer) -> None:
        self._committer = committer

    def before_io_wait(self, timeout: float) -> None:
        committer = self._committer
        if committer.gathered and (timeout > 0 or monotonic() >= committer.gather_until_s):
            committer.hand_over()


class Committer:
    """The queue and its thread. `start` and `refuse`, `join` frame its life; all methods are for the loop's thread.

    `on_failure` is called on the loop's thread, once, after a commit has failed.
    """

    def __init__(
        self, writer: GroupWriter, token: trio.lowlevel.TrioToken, on_failure: Callable[[StoreFailed], None]
    ) -> None:
        self._writer = writer
        self._token = token
        self._on_failure = on_failure
        self.gathered: list[Queued] = []
        """Batches that the thread has not been told of yet."""
        self.gather_until_s = 0.0
        self._pause = _LoopPause(self)
        self._queue: SimpleQueue[list[Queued] | None] = SimpleQueue()
        self._taken: list[Queued] = []
        """On the thread: taken from the queue, too many for the last group."""
        self._thread = Thread(target=self._run, name="committer", daemon=True)
        self._refusal: str | None = None
        self.groups = 0
        """Transactions committed so far."""
        self.before_group: Callable[[], None] | None = None
        """Called before what was gathered is handed over; what it submits goes with it."""

    def start(self) -> None:
        trio.lowlevel.add_instrument(self._pause)

    def submit(self, batch: Batch) -> Promise[None]:
        """Queue a batch; see `api.Store.commit`."""
        if self._refusal is not None:
            return Promise.rejected(StoreFailed(self._refusal))
        promise: Promise[None] = Promise()
        if not self.gathered:
            self.gather_until_s = monotonic() + COMMIT_GATHER_S
        self.gathered.append((batch.operations.copy(), promise))
        return promise

    def hand_over(self) -> None:
        """Let the thread have what was gathered. It begins with the first batch: many an isolate never writes."""
        if self._thread.ident is None:
            self._thread.start()
        if self.before_group is not None:
            self.before_group()
        gathered, self.gathered = self.gathered, []
        self._queue.put(gathered)

    def refuse(self) -> None:
        """Accept no more batches; those queued are still committed, then the thread ends."""
        self._refusal = self._refusal or "the store is closed"
        with suppress(RuntimeError, KeyError):  # the loop may have ended, or this be a repetition
            trio.lowlevel.remove_instrument(self._pause)
        if self.gathered:
            self.hand_over()
        self._queue.put(None)

    def join(self) -> None:
        """Block until the thread has ended, after `refuse`. Not on the loop's thread."""
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        failure: StoreFailed | None = None
        closing = False
        groups_at_sweep = 0
        while not closing:
            group, closing = self._take()
            refusals: Refusals = {}
            if failure is None:
                try:
                    if group:
                        refusals = self._commit_group(group)
                    if self.groups - groups_at_sweep >= STORE_SWEEP_GROUPS or not (group or closing):
                        groups_at_sweep = self.groups
                        self._writer.sweep()
                    if closing:
                        self._writer.finish()
                except StoreFailed as error:
                    failure = error
                except Exception as error:
                    # A defect of ours. Waiters must hear of it all the same, so it counts as a failed commit.
                    failure = StoreFailed(f"the committer met an unexpected error: {error!r}")
                    failure.__cause__ = error
                if failure is not None:
                    self._refusal = str(failure)
                    self._hop(self._on_failure, failure)
            if group:
                self._hop(_settle, group, refusals, self._refusal if failure is not None else None)
            del group, refusals  # not to be kept until the next ones come

    def _take(self) -> tuple[list[Queued], bool]:
        """Everything queued, and whether `refuse` was called after it. An empty group after STORE_SWEEP_S."""
        taken, self._taken = self._taken, []
        closing = False
        try:
            while len(taken) < COMMIT_BATCHES_MAX:
                item = self._queue.get_nowait() if taken else self._queue.get(timeout=STORE_SWEEP_S)
                if item is None:
                    closing = True
                    break
                taken += item
        except Empty:
            pass
        group, self._taken = taken[:COMMIT_BATCHES_MAX], taken[COMMIT_BATCHES_MAX:]
        if closing and self._taken:
            self._queue.put(None)
            closing = False
        return group, closing

    def _commit_group(self, group: list[Queued]) -> Refusals:
        refusals: Refusals = {}
        if not any(operations for operations, _ in group):
            return refusals
        while True:
            try:
                self._write(group, refusals)
            except MapFull:
                try:
                    self._writer.grow()
                except StoreFull as error:
                    return _refuse_all(group, refusals, error)
            except BatchRefused:
                continue
            except StoreFull as error:
                return _refuse_all(group, refusals, error)
            else:
                return refusals

    def _write(self, group: list[Queued], refusals: Refusals) -> None:
        """One attempt. Batches in `refusals` are left out; raises BatchRefused after adding one that must be undone."""
        self._writer.begin()
        try:
            for index, (operations, _) in enumerate(group):
                if operations and index not in refusals:
                    try:
                        self._writer.apply(operations)
                    except BatchRefused as refused:
                        refusals[index] = refused.error
                        if refused.undo:
                            raise
            self._writer.commit()
        except BaseException:
            self._writer.abort()
            raise
        self.groups += 1

    def _hop(self, fn: Callable[..., None], *args: object) -> None:
        try:
            self._token.run_sync_soon(fn, *args)
        except trio.RunFinishedError:
            # The loop that the waiters lived in has ended, so there is nobody to tell.
            pass


def _refuse_all(group: list[Queued], refusals: Refusals, error: StoreFull) -> Refusals:
    return {index: refusals.get(index, error) for index in range(len(group))}


def _settle(group: list[Queued], refusals: Refusals, failure: str | None) -> None:
    for index, (_, promise) in enumerate(group):
        if failure is not None:
            promise.reject(StoreFailed(failure))
        elif index in refusals:
            promise.reject(refusals[index])
        else:
            promise.resolve(None)
