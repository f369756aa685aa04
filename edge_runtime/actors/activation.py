"""One activation of an actor: its mailbox, its gate, its tasks; what a body sees as its ActorContext."""

from __future__ import annotations

import contextvars
import logging
from collections import deque
from collections.abc import Callable
from typing import Final

import trio

from edge_runtime.actors.api import ActorAddress, ActorBody, BodyFactory
from edge_runtime.actors.gates import OutputGate
from edge_runtime.actors.timers import BLANK, ActorRecord, decode_record, record_key, write_record
from edge_runtime.actors.turns import Turn, TurnEnd
from edge_runtime.errors import ActorBroken, StoreFailed
from edge_runtime.event import Events
from edge_runtime.promise import Promise
from edge_runtime.seams import Clock, Offload, Randomness
from edge_runtime.store.api import Batch, Store, Table

_log = logging.getLogger("edge.actors")

CODE_UPDATED: Final = "Durable Object reset because its code was updated."
OVERLOADED: Final = "Durable Object is overloaded. Too many requests queued."
STORAGE_FAILED: Final = "Durable Object storage operation failed which caused object to be reset."
STORAGE_TIMED_OUT: Final = "Durable Object storage operation exceeded timeout which caused object to be reset."


class TimerMessage:
    """Takes a due timer through the mailbox, so that it waits its turn as every event does."""

    __slots__ = ("woken",)

    def __init__(self, *, woken: bool) -> None:
        self.woken = woken
        """Somebody asked for the call, whether or not the actor's own timer is due."""


class Delivery:
    """A message and the promise of its reply."""

    __slots__ = ("message", "reply")

    def __init__(self, message: object) -> None:
        self.message = message
        self.reply: Promise[object] = Promise()

    def fail(self, error: BaseException) -> None:
        if not self.reply.settled:
            self.reply.reject(error)


class Activation:
    """An actor in memory, from its first delivery until it is evicted, released or broken.

    Invariants: messages begin in the order of delivery, each after the one before it has given up control; nothing is
    committed after the activation was broken or released; a reply leaves only once all earlier writes are durable.
    """

    def __init__(
        self,
        address: ActorAddress,
        name: str | None,
        factory: BodyFactory,
        *,
        store: Store,
        clock: Clock,
        random: Randomness,
        offload: Offload,
        events: Events,
        turn_end: TurnEnd,
        tasks: contextvars.Context,
        timer_written: Callable[[int], None],
    ) -> None:
        self.address = address
        self.store = store
        self.clock = clock
        self.random = random
        self.offload = offload
        self.events = events
        self.idle_ms = factory.idle_ms
        self.closing = False
        """No delivery begins any more; those that arrive wait for the next activation."""
        self.waiting: deque[Delivery] = deque()
        self.touched_s = clock.monotonic_s()
        self.closed: Promise[None] = Promise()
        self._factory = factory
        self._name = name
        self._turn_end = turn_end
        self._tasks = tasks
        self._timer_written = timer_written
        self._body: ActorBody | None = None
        self._nursery: trio.Nursery | None = None
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        self._record: ActorRecord | None = None
        self._name_due = True
        self._timer_set = False
        self._begin_pending = True
        self._open: set[Delivery] = set()
        self._output = OutputGate()
        self._turn: Turn | None = None
        self._commits: deque[float] = deque()
        self._refusal: ActorBroken | None = None

    # What the body sees

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
        scheduled_ms = due_ms
        if retries and due_ms is not None and old is not None and old.scheduled_ms is not None:
            scheduled_ms = old.scheduled_ms
        self._timer_set = True
        self._write_record(batch, ActorRecord(due_ms, retries, self._name, scheduled_ms))

    def forget(self, batch: Batch) -> None:
        self._name_due = False
        self._timer_set = True
        self._write_record(batch, BLANK)

    def _write_record(self, batch: Batch, new: ActorRecord) -> None:
        write_record(batch, self.address, self._record, new)
        self._record = None if new.blank else new

    def turn(self) -> Turn:
        turn = self._turn
        if turn is None:
            turn = self._turn = Turn()
            self._turn_end.soon(self.flush)
        return turn

    def flush(self) -> None:
        turn, self._turn = self._turn, None
        if turn is None:
            return
        if self._refusal is not None:
            turn.durable.reject(self._refusal)
            return
        self._queue(turn.batch, confirmed=turn.confirmed, also=turn.settled)

    def discard_turn(self) -> None:
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.durable.reject(self._refusal or ActorBroken(STORAGE_FAILED))

    def commit(self, batch: Batch) -> Promise[None]:
        if self._refusal is not None:
            return Promise.rejected(self._refusal)
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
                self._write_record(batch, ActorRecord(record.due_ms, record.retries, self._name, record.scheduled_ms))
        written = self.store.commit(batch)
        self._commits.append(self.clock.monotonic_s())
        due_ms = self.due_ms

        def committed(promise: Promise[None]) -> None:
            self._commits.popleft()
            if promise.error is not None:
                self._commit_failed(promise.error)
            elif due_ms is not None:
                self._timer_written(due_ms)

        written.add_done_callback(committed)
        if also is not None:
            written.add_done_callback(also)
        if confirmed:
            self._output.hold(written)
        return written

    def _commit_failed(self, error: BaseException) -> None:
        broken = ActorBroken(STORAGE_FAILED)
        broken.__cause__ = error
        self.abort(broken)

    @property
    def durable(self) -> bool:
        return (self._turn is None or not self._turn.confirmed) and self._output.open

    def when_durable(self) -> Promise[None]:
        turn = self._turn
        if turn is None or not turn.confirmed:
            return self._output.wait()
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
        await self._output.wait()

    def abort(self, error: BaseException) -> None:
        if self._refusal is not None:
            return
        self.closing = True
        self._output.break_with(error)
        self._fail_all(error)
        self._refuse(error if isinstance(error, ActorBroken) else ActorBroken(str(error), retryable=False))
        self._scope.cancel()

    def _refuse(self, refusal: ActorBroken) -> None:
        self._refusal = refusal
        self.discard_turn()
        self.closed.resolve(None)

    def _fail_all(self, error: BaseException) -> None:
        for delivery in (*self._open, *self.waiting):
            delivery.fail(error)
        self._open.clear()
        self.waiting.clear()

    # What the host does

    @property
    def idle(self) -> bool:
        return (
            not self._begin_pending
            and not self._open
            and not self.waiting
            and not self._commits
            and self._turn is None
            and self._body is not None
            and self._body.idle
        )

    @property
    def undone(self) -> int:
        """Messages delivered and not answered."""
        return len(self.waiting) + len(self._open)

    @property
    def settling(self) -> bool:
        """Batches of this activation are queued that the store has not settled yet."""
        return bool(self._commits)

    @property
    def oldest_commit_s(self) -> float | None:
        """When (monotonic) the oldest batch was queued that is not durable yet."""
        return self._commits[0] if self._commits else None

    def deliver(self, delivery: Delivery, name: str | None) -> None:
        if name is not None:
            self._name = name
        if self._begin_pending or self.closing or self._nursery is None:
            self.waiting.append(delivery)
        else:
            self._begin_pending = True
            self._tasks.run(self._nursery.start_soon, self._process, delivery)

    async def live(self, before: Promise[None] | None) -> None:
        """Be active: start the body, process messages, return when stopped or broken. `before`: what an earlier
        activation of this actor had queued."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    if before is not None:
                        await before
                    if await self._start():
                        self._nursery = nursery
                        self._begin_next()
                        await self._ended.wait()
                    nursery.cancel_scope.cancel()
        finally:
            self.closing = True
            self._nursery = None
            if self._refusal is None:
                self._refuse(ActorBroken(CODE_UPDATED))

    async def _start(self) -> bool:
        """Make and start the body; whoever waits gets the error if that fails."""
        try:
            self._read_record()
            self._body = self._factory(self)
            await self._body.start()
        except trio.Cancelled:
            raise
        except BaseException as error:
            self._fail_all(error)
            if self._refusal is None:
                self._refuse(ActorBroken(f"the actor did not start: {error}"))
            return False
        return True

    def _read_record(self) -> None:
        data = self.store.get(Table.ACTORS, record_key(self.address))
        self._record = None if data is None else decode_record(data)
        if self._record is not None and self._name is None:
            self._name = self._record.name

    def _begin_next(self) -> None:
        """Let the next message begin: called when the one before it is running, so it runs once that one yields."""
        if self.waiting and not self.closing and self._nursery is not None:
            self._begin_pending = True
            self._tasks.run(self._nursery.start_soon, self._process, self.waiting.popleft())
        else:
            self._begin_pending = False

    async def _process(self, delivery: Delivery) -> None:
        assert self._body is not None
        self._open.add(delivery)
        begun = False
        try:
            await self._body.input_open()
            begun = True
            self._begin_next()
            result: object
            if isinstance(delivery.message, TimerMessage):
                result = await self._timer(self._body, delivery.message)
            else:
                result = await self._body.receive(delivery.message)
        except trio.Cancelled:
            self._cut(delivery)
            raise
        except BaseExceptionGroup as group:
            cancelled, rest = group.split(trio.Cancelled)
            if cancelled is not None:
                self._cut(delivery)
                raise cancelled from None
            self._answer(delivery, None, rest)
        except BaseException as error:
            self._answer(delivery, None, error)
        else:
            self._answer(delivery, result, None)
        finally:
            self.touched_s = self.clock.monotonic_s()
            if not begun:
                self._begin_next()

    def _cut(self, delivery: Delivery) -> None:
        """Whoever cancelled the tasks has answered, unless the whole host is cancelled."""
        delivery.fail(self._refusal or ActorBroken(CODE_UPDATED))
        self._open.discard(delivery)

    async def _timer(self, body: ActorBody, message: TimerMessage) -> bool:
        """Call the body unless its timer was moved meanwhile; returns whether it was called.

        A failure breaks the actor, and so does a body that leaves its timer as it was: it would be called for ever.
        """
        if not self._commits and self._turn is None:
            self._read_record()
        due_ms = self.due_ms
        if not message.woken and (due_ms is None or due_ms > self.clock.now_ms()):
            return False
        self._timer_set = False
        try:
            await body.timer()
            if not message.woken and not self._timer_set:
                raise RuntimeError(f"the timer of {self.address} is due and its body did not set another")
        except trio.Cancelled:
            raise
        except BaseException as error:
            self.abort(error)
            raise
        return True

    def _answer(self, delivery: Delivery, result: object, error: BaseException | None) -> None:
        """Let the reply out once the output gate opens."""
        reply = delivery.reply

        def send(gate: Promise[None]) -> None:
            self._open.discard(delivery)
            if reply.settled:
                return
            failure = gate.error or error
            if failure is not None:
                reply.reject(failure)
            else:
                reply.resolve(result)

        self.flush()
        self._output.wait().add_done_callback(send)

    async def stop(self, refusal: ActorBroken) -> None:
        """End the activation in an orderly way; returns when the body has stopped and its writes are durable.

        Messages that wait are kept for the next activation.
        """
        self.closing = True
        body = self._body
        if body is not None and self._nursery is not None:
            try:
                await body.stop()
            except Exception:
                _log.exception("%s %s did not stop cleanly", self.address.namespace, self.address.id)
        self.flush()
        try:
            await self.store.commit(Batch())
        except StoreFailed:
            # The isolate ends for it; nothing that waits here is acknowledged.
            _log.error("%s %s stopped without its last writes", self.address.namespace, self.address.id)
        for delivery in self._open:
            delivery.fail(refusal)
        self._open.clear()
        if self._refusal is None:
            self._refuse(refusal)
        self._ended.set()
        if self._nursery is None:
            self._scope.cancel()
