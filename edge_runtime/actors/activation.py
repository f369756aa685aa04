"""One activation of an actor: its mailbox and its tasks. With its writes it is what a body sees as ActorContext."""

from __future__ import annotations

import contextvars
import logging
from collections import deque
from collections.abc import Callable
from typing import Final

import trio

from edge_runtime.actors.answers import Answers
from edge_runtime.actors.api import ActorAddress, ActorBody, BodyFactory
from edge_runtime.actors.driving import drive
from edge_runtime.actors.turns import TurnEnd
from edge_runtime.actors.writes import ActorWrites
from edge_runtime.errors import ActorBroken, StoreFailed
from edge_runtime.event import Events
from edge_runtime.promise import Promise
from edge_runtime.seams import Clock, Offload, Randomness
from edge_runtime.store.api import Batch, Store

_log = logging.getLogger("edge.actors")

_LEAVE_LOOK_S: Final = 0.005

CODE_UPDATED: Final = "Durable Object reset because its code was updated."
OVERLOADED: Final = "Durable Object is overloaded. Too many requests queued."
STORAGE_TIMED_OUT: Final = "Durable Object storage operation exceeded timeout which caused object to be reset."


_MESSAGES_PER_STEP: Final = 64  # ours: before the other tasks of the isolate have their turn


class TimerMessage:
    """Takes a due timer through the mailbox, so that it waits its turn as every event does."""

    __slots__ = ("woken",)

    def __init__(self, *, woken: bool) -> None:
        self.woken = woken
        """Somebody asked for the call, whether or not the actor's own timer is due."""


class Delivery:
    """A message and the promise of its reply. `identity`: the call may be repeated and is to be answered once; see
    `actors.answers`."""

    __slots__ = ("identity", "message", "reply")

    def __init__(self, message: object, identity: bytes | None = None) -> None:
        self.message = message
        self.identity = identity
        self.reply: Promise[object] = Promise()

    def fail(self, error: BaseException) -> None:
        if not self.reply.settled:
            self.reply.reject(error)

    def settle_as(self, other: Promise[object]) -> None:
        if other.error is not None:
            self.fail(other.error)
        elif not self.reply.settled:
            self.reply.resolve(other.result())


def _ignore(_: ActorBroken) -> None:
    pass


class Activation(ActorWrites):
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
        evict: Callable[[Activation], None],
    ) -> None:
        super().__init__(address, name, store, clock, turn_end, timer_written, self.abort)
        self.random = random
        self.offload = offload
        self.events = events
        self.idle_ms = factory.idle_ms
        self.closing = False
        """No delivery begins any more; those that arrive wait for the next activation."""
        self.waiting: deque[Delivery] = deque()
        self.touched_s = clock.monotonic_s()
        self._factory = factory
        self._evict = evict
        self._resting = False
        """The body wants to be evicted as soon as it is idle."""
        self._tasks = tasks
        self._body: ActorBody | None = None
        self._nursery: trio.Nursery | None = None
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        self.gone = trio.Event()
        """It has ended and the host has forgotten it."""
        self._begin_pending = True
        self._answers: Answers | None = None
        """A worker has the right to begin the next message, or will have it once the body has started."""
        self._parked: trio.lowlevel.Task | None = None
        """A worker without a message. One is kept: to wake it costs a fraction of what a new task does."""
        self._open: set[Delivery] = set()
        """Begun and not answered."""

    def abort(self, error: BaseException) -> None:
        if self.refusal is not None:
            return
        self.closing = True
        self.output.break_with(error)
        self._fail_all(error)
        self.refuse(error if isinstance(error, ActorBroken) else ActorBroken(str(error), retryable=False))
        self._scope.cancel()

    def _fail_all(self, error: BaseException) -> None:
        for delivery in (*self._open, *self.waiting):
            delivery.fail(error)
        self._open.clear()
        self.waiting.clear()

    @property
    def idle(self) -> bool:
        return (
            not self._begin_pending
            and not self._open
            and not self.waiting
            and not self.unwritten
            and self._body is not None
            and self._body.idle
        )

    def rest(self) -> None:
        if self.idle and not self.closing and self.refusal is None:
            self._evict(self)
        else:
            self._resting = True

    @property
    def undone(self) -> int:
        """Messages delivered and not answered."""
        return len(self.waiting) + len(self._open)

    def deliver(self, delivery: Delivery, name: str | None) -> None:
        self.meet(name)
        self._resting = False
        self.waiting.append(delivery)
        if not self._begin_pending:
            self._begin_next()

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
            # What refers back to this activation would keep it until the cycle collector comes by.
            self._body, self._broken = None, _ignore
            if self.refusal is None:
                self.refuse(ActorBroken(CODE_UPDATED))

    async def _start(self) -> bool:
        """Make and start the body; whoever waits gets the error if that fails."""
        try:
            self.read_record()
            self._body = self._factory(self)
            await self._body.start()
        except trio.Cancelled:
            raise
        except BaseException as error:
            self._fail_all(error)
            if self.refusal is None:
                self.refuse(ActorBroken(f"the actor did not start: {error}"))
            return False
        return True

    def _begin_next(self) -> None:
        """Give a worker the right to begin messages, if any wait: it runs once the running code yields."""
        if not self.waiting or self.closing or self._nursery is None:
            self._begin_pending = False
            return
        self._begin_pending = True
        parked, self._parked = self._parked, None
        if parked is not None:
            trio.lowlevel.reschedule(parked)
        else:
            self._tasks.run(self._nursery.start_soon, self._work)

    async def _work(self) -> None:
        """Process messages one after the other, each in a context of its own.

        When one gives up control before it has ended, the right to begin the next goes to another worker.
        """
        has_right = True

        def pass_right_on() -> None:
            nonlocal has_right
            has_right = False
            self._begin_next()

        while True:
            begun = 0
            while has_right and self.waiting and not self.closing:
                delivery = self.waiting.popleft()
                self._open.add(delivery)
                if await self._admitted(delivery):
                    await drive(self._process(delivery), self._tasks.copy(), pass_right_on)
                del delivery  # its reply may hold a stream that ends when nobody refers to it
                begun += 1
                if begun % _MESSAGES_PER_STEP == 0:
                    await trio.lowlevel.checkpoint()
            if has_right:
                self._begin_pending = False
                if self._resting:
                    self.rest()
            if self._parked is not None:
                return
            self._parked = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._unpark)
            has_right = True

    def _unpark(self, _: object) -> trio.lowlevel.Abort:
        self._parked = None
        return trio.lowlevel.Abort.SUCCEEDED

    async def _admitted(self, delivery: Delivery) -> bool:
        """Wait at the body's input gate, ahead of all later messages."""
        assert self._body is not None
        try:
            await self._body.input_open()
        except trio.Cancelled:
            self._cut(delivery)
            raise
        except Exception as error:
            self._answer(delivery, None, error)
            return False
        return True

    async def _process(self, delivery: Delivery) -> None:
        assert self._body is not None
        try:
            result: object
            if isinstance(delivery.message, TimerMessage):
                result = await self._timer(self._body, delivery.message)
            elif delivery.identity is not None:
                self._answers = self._answers or Answers(self)
                result = await self._answers.once(delivery.identity, self._body, delivery.message)
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

    def _cut(self, delivery: Delivery) -> None:
        """Whoever cancelled the tasks has answered, unless the whole host is cancelled."""
        delivery.fail(self.refusal or ActorBroken(CODE_UPDATED))
        self._open.discard(delivery)

    async def _timer(self, body: ActorBody, message: TimerMessage) -> bool:
        """Call the body unless its timer was moved meanwhile; returns whether it was called.

        A failure breaks the actor, and so does a body that leaves its timer as it was: it would be called for ever.
        """
        if not self.unwritten:
            self.read_record()
        due_ms = self.due_ms
        if not message.woken and (due_ms is None or due_ms > self.clock.now_ms()):
            return False
        self.timer_set = False
        try:
            await body.timer()
            if not message.woken and not self.timer_set:
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
            if self._resting:
                self.rest()

        self.when_over().add_done_callback(send)

    async def leave(self, refusal: ActorBroken, patience_s: float) -> None:
        """As `stop`, once what has begun is answered or `patience_s` is over; returns when the activation is gone."""
        if not self.closing:
            self.closing = True
            with trio.move_on_after(patience_s):
                while self._open or (self._body is not None and self._body.answering):
                    await trio.sleep(_LEAVE_LOOK_S)
            await self.stop(refusal)
        await self.gone.wait()

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
        if self.refusal is None:
            self.refuse(refusal)
        self._ended.set()
        if self._nursery is None:
            self._scope.cancel()
