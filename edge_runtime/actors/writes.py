"""What an activated actor writes: its batches, the turn that is open, its record and timer, its output gate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from edge_runtime.actors.api import ActorAddress
from edge_runtime.actors.gates import OutputGate
from edge_runtime.actors.timers import BLANK, ActorRecord, decode_record, record_key, write_record
from edge_runtime.actors.turns import Turn, TurnEnd
from edge_runtime.errors import ActorBroken
from edge_runtime.metering.panel import actor_number
from edge_runtime.promise import Promise
from edge_runtime.seams import Clock
from edge_runtime.store.api import Batch, Store, Table

STORAGE_FAILED: Final = "Durable Object storage operation failed which caused object to be reset."


class ActorWrites:
    """The part of `actors.api.ActorContext` that leads to the store; `Activation` is the rest.

    Invariants: batches reach the store in the order of these calls; once `refuse` was called, none does; a batch that
    fails breaks the actor.
    """

    # Objects are many, and by far the most of them at rest: with slots one takes a third of the memory.
    __slots__ = (
        "_broken", "_commits", "_joined", "_name", "_name_due", "_record", "_timer_written", "_turn", "_turn_end",
        "address", "clock", "closed", "number", "output", "refusal", "store", "timer_set",
    )  # fmt: skip

    def __init__(
        self,
        address: ActorAddress,
        name: str | None,
        store: Store,
        clock: Clock,
        turn_end: TurnEnd,
        timer_written: Callable[[int], None],
        broken: Callable[[ActorBroken], None],
    ) -> None:
        self.address = address
        self.number = float(actor_number(address))
        """By which the supervisor knows it."""
        self.store = store
        self.clock = clock
        self.closed: Promise[None] = Promise()
        self.refusal: ActorBroken | None = None
        """Why nothing is committed any more; None as long as the activation lives."""
        self.output = OutputGate()
        self.timer_set = False
        """Cleared and looked at by whoever wants to know whether a timer was set or cleared meanwhile."""
        self._name = name
        self._name_due = True
        """The next batch stores the name if the record lacks it."""
        self._turn_end = turn_end
        self._timer_written = timer_written
        self._broken = broken
        self._record: ActorRecord | None = None
        self._turn: Turn | None = None
        self._joined = 0
        self._commits: list[float] = []  # a deque takes 600 bytes even when it is empty

    @property
    def name(self) -> str | None:
        return self._name

    @property
    def due_ms(self) -> int | None:
        return None if self._record is None else self._record.due_ms

    @property
    def retries(self) -> int:
        return 0 if self._record is None else self._record.retries

    @property
    def scheduled_ms(self) -> int | None:
        return None if self._record is None else self._record.scheduled_ms

    def set_timer(self, batch: Batch, due_ms: int | None, *, retries: int = 0) -> None:
        old = self._record
        first_due_ms = old.scheduled_ms if retries and due_ms is not None and old is not None else None
        self.timer_set = True
        self._write_record(batch, ActorRecord(due_ms, retries, self._name, first_due_ms))

    def forget(self, batch: Batch) -> None:
        self._name_due = False
        self.timer_set = True
        self._write_record(batch, BLANK)

    def _write_record(self, batch: Batch, new: ActorRecord) -> None:
        write_record(batch, self.address, self._record, new)
        self._record = None if new.blank else new

    def turn(self) -> Turn:
        turn = self._turn
        if turn is None:
            turn = self._turn = Turn()
            self._turn_end.soon(self._turn_over)
        return turn

    def join_turns(self) -> None:
        """Let turns go on into one another until `part_turns`, so that what they write is committed together.

        Something that waits for writes to be durable cuts the turn in two all the same: it might be waited for.
        """
        self._joined += 1

    def part_turns(self) -> None:
        self._joined -= 1
        if not self._joined:
            self.flush()

    def _turn_over(self) -> None:
        if not self._joined:
            self.flush()

    def flush(self) -> None:
        turn, self._turn = self._turn, None
        if turn is None:
            return
        if self.refusal is not None:
            turn.durable.reject(self.refusal)
            return
        self._queue(turn.batch, confirmed=turn.confirmed, also=turn.settled)

    def discard_turn(self) -> None:
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.durable.reject(self.refusal or ActorBroken(STORAGE_FAILED))

    def commit(self, batch: Batch) -> Promise[None]:
        if self.refusal is not None:
            return Promise.rejected(self.refusal)
        if self._turn is not None:
            self.flush()
        return self._queue(batch, confirmed=True)

    def _queue(
        self, batch: Batch, *, confirmed: bool, also: Callable[[Promise[None]], None] | None = None
    ) -> Promise[None]:
        if self._name is not None and batch:
            record = self._record or BLANK
            if not self._name_due:
                self._name_due = True
            elif record.name != self._name:
                self._write_record(batch, ActorRecord(record.due_ms, record.retries, self._name, record.first_due_ms))
        written = self.store.commit(batch)
        self._commits.append(self.clock.monotonic_s())
        due_ms = self.due_ms

        def committed(promise: Promise[None]) -> None:
            del self._commits[0]
            if promise.error is not None:
                self._commit_failed(promise.error)
            elif due_ms is not None:
                self._timer_written(due_ms)
            if also is not None:
                also(promise)

        written.add_done_callback(committed)
        if confirmed:
            self.output.hold(written)
        return written

    def _commit_failed(self, error: BaseException) -> None:
        broken = ActorBroken(STORAGE_FAILED)
        broken.__cause__ = error
        self._broken(broken)

    @property
    def durable(self) -> bool:
        return (self._turn is None or not self._turn.confirmed) and self.output.open

    def when_durable(self) -> Promise[None]:
        turn = self._turn
        if turn is None or not turn.confirmed:
            return self.output.wait()
        if self._joined:
            self.flush()
            return self.output.wait()
        return self._turn_durable(turn)

    def call_when_over(self, fn: Callable[[BaseException | None], None]) -> None:
        """Call `fn` once everything written so far is durable, the present turn too, which ends by itself if it is
        joined with others, or else now; with what prevented it, if anything did."""
        turn = self._turn
        if turn is not None:
            if self._joined and turn.confirmed:
                self._turn_durable(turn).add_done_callback(lambda durable: fn(durable.error))
                return
            self._turn_over()
        self.output.call_when_open(fn)

    def _turn_durable(self, turn: Turn) -> Promise[None]:
        promise: Promise[None] = Promise()

        def pass_on(durable: Promise[None]) -> None:
            if durable.error is not None:
                promise.reject(durable.error)
            else:
                promise.resolve(None)

        turn.durable.add_done_callback(pass_on)
        return promise

    async def wait_durable(self) -> None:
        self.flush()
        await self.output.wait()

    def refuse(self, refusal: ActorBroken) -> None:
        """Commit nothing any more; what the present turn wrote is dropped."""
        self.refusal = refusal
        self.discard_turn()
        self.closed.resolve(None)

    def meet(self, name: str | None) -> None:
        """Learn the actor's name from a caller that knows it."""
        if name is not None:
            self._name = name

    def read_record(self) -> None:
        """Take the record as it is stored; only while nothing of this activation is on its way there."""
        data = self.store.get(Table.ACTORS, record_key(self.address))
        self._record = None if data is None else decode_record(data)
        if self._record is not None and self._name is None:
            self._name = self._record.name

    @property
    def unwritten(self) -> bool:
        """Something was written that the store has not settled yet."""
        return bool(self._commits) or self._turn is not None

    @property
    def settling(self) -> bool:
        """Batches of this activation are queued that the store has not settled yet."""
        return bool(self._commits)

    @property
    def oldest_commit_s(self) -> float | None:
        """When (monotonic) the oldest batch was queued that is not durable yet."""
        return self._commits[0] if self._commits else None
