"""One activation of an actor: its mailbox and what runs of it. With its writes it is a body's ActorContext."""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Callable, Set
from typing import Any, Final, TypeVar

import trio

from edge_runtime.actors.answers import Answers
from edge_runtime.actors.api import ActorAddress, ActorBody, BodyFactory
from edge_runtime.actors.carriers import Carrier, Carriers
from edge_runtime.actors.delivery import Delivery, TimerMessage
from edge_runtime.actors.turns import TurnEnd
from edge_runtime.actors.writes import ActorWrites
from edge_runtime.errors import ActorBroken, StoreFailed
from edge_runtime.event import Events
from edge_runtime.promise import Promise
from edge_runtime.seams import Clock, Offload, Randomness
from edge_runtime.store.api import Batch, Store

_log = logging.getLogger("edge.actors")

T = TypeVar("T")

_LEAVE_LOOK_S: Final = 0.005
_NONE: Final[Set[Any]] = frozenset()

CODE_UPDATED: Final = "Durable Object reset because its code was updated."
OVERLOADED: Final = "Durable Object is overloaded. Too many requests queued."
STORAGE_TIMED_OUT: Final = "Durable Object storage operation exceeded timeout which caused object to be reset."


_MESSAGES_PER_STEP: Final = 64  # ours: before the other tasks of the isolate have their turn


def _ignore(_: ActorBroken) -> None:
    pass


def _with(items: Set[T], item: T) -> Set[T]:
    if not items:
        return {item}
    items.add(item)  # type: ignore[attr-defined]  # only the empty one is frozen
    return items


def _without(items: Set[T], item: T) -> Set[T]:
    if items:
        items.discard(item)  # type: ignore[attr-defined]
    return items or _NONE


class Activation(ActorWrites):
    """An actor in memory, from its first delivery until it is evicted, released or broken.

    Invariants: messages begin in the order of delivery, each after the one before it has given up control; nothing is
    committed after the activation was broken or released; a reply leaves only once all earlier writes are durable.

    An actor at rest has no task: what is to run begins in the pass of `turn_end`, as a carrier's task.
    """

    __slots__ = (
        "_answers", "_at_gate", "_before", "_body", "_carriers", "_ended", "_ending", "_evict", "_factory", "_held",
        "_resting", "_running", "_started", "_suspended", "_tasks", "_within_begin", "closing", "events", "gone",
        "idle_ms", "offload", "open", "random", "touched_s", "waiting",
    )  # fmt: skip

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
        carriers: Carriers,
        tasks: contextvars.Context,
        timer_written: Callable[[int], None],
        before: Promise[None] | None,
        ended: Callable[[Activation], None],
        evict: Callable[[Activation], None],
    ) -> None:
        """`before`: what an earlier activation of this actor had queued. `ended(self)` is called when nothing of this
        activation runs any more."""
        super().__init__(address, name, store, clock, turn_end, timer_written, self.abort)
        self.random = random
        self.offload = offload
        self.events = events
        self.idle_ms = factory.idle_ms
        self.closing = False
        """No delivery begins any more; those that arrive wait for the next activation."""
        self.waiting: list[Delivery] = []
        self.touched_s = clock.monotonic_s()
        self.gone: Promise[None] = Promise()
        """Resolves when it has ended and the host has forgotten it."""
        self._factory = factory
        self._evict = evict
        self._resting = False
        """The body wants to be evicted as soon as it is idle."""
        self._carriers = carriers
        self._tasks = tasks
        self._before = before
        self._ended = ended
        self._body: ActorBody | None = None
        self._started = False
        self._answers: Answers | None = None
        self._held = True
        """The next message begins without a further call: `_begin` runs, or will because of what runs now."""
        self._within_begin = False
        self._at_gate = False
        # At rest there is no set: an empty one takes 200 bytes.
        self.open: Set[Delivery] = _NONE
        """Deliveries that have begun and are not answered."""
        self._running = 0
        self._suspended: Set[Carrier] = _NONE
        self._ending = False
        turn_end.soon(self._begin)

    def abort(self, error: BaseException) -> None:
        if self.refusal is not None:
            return
        self.closing = True
        self.output.break_with(error)
        self._fail_all(error)
        self.refuse(error if isinstance(error, ActorBroken) else ActorBroken(str(error), retryable=False))
        self._end()

    def _fail_all(self, error: BaseException) -> None:
        for delivery in (*self.open, *self.waiting):
            delivery.fail(error)
        self.open = _NONE
        self.waiting.clear()

    @property
    def idle(self) -> bool:
        return (
            self._started
            and not self._running
            and not self.open
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

    def deliver(self, delivery: Delivery, name: str | None) -> None:
        if name is not None:
            self.meet(name)
        self._resting = False
        self.waiting.append(delivery)
        if not self._held:
            self._held = True
            self._turn_end.soon(self._begin)

    def _begin(self) -> None:
        """Start the body, if that is to be done, and let messages begin, until one waits at the input gate."""
        self._within_begin = True
        try:
            self._held = self._begin_all()
        finally:
            self._within_begin = False

    def _begin_all(self) -> bool:
        """Whether something will call `_begin` again."""
        begun = 0
        while not self.closing and (self.waiting or not self._started):
            carrier = None if begun == _MESSAGES_PER_STEP else self._carriers.take()
            if carrier is None:
                if not self._turn_end.over:
                    self._turn_end.soon(self._begin)
                return True
            work = self._process(self.waiting.pop(0)) if self._started else self._start()
            self._running += 1
            if carrier.begin(work, self._tasks.copy(), self._carried):
                self._suspended = _with(self._suspended, carrier)
                if self._ending:
                    carrier.cancel()
                if self._at_gate or not self._started:
                    return True
            else:
                self._one_over()
            begun += 1
        return False

    def _carried(self, carrier: Carrier) -> None:
        self._suspended = _without(self._suspended, carrier)
        self._one_over()

    def _one_over(self) -> None:
        self._running -= 1
        if self._ending and not self._running:
            self._go()
        elif self._resting:
            self.rest()

    def _go_on(self) -> None:
        """What held up the messages is over."""
        if not self._within_begin:
            self._turn_end.soon(self._begin)

    def _end(self) -> None:
        """Cancel what runs; when it has ended, the activation has."""
        if self._ending:
            return
        self.closing = self._ending = True
        for carrier in tuple(self._suspended):
            carrier.cancel()
        if not self._running:
            self._go()

    def _go(self) -> None:
        if self.refusal is None:
            self.refuse(ActorBroken(CODE_UPDATED))
        # What refers back to this activation would keep it until the cycle collector comes by.
        self._body, self._broken = None, _ignore
        if not self.gone.settled:
            self._ended(self)
            self.gone.resolve(None)

    def cut_off(self) -> None:
        """The host's tasks have ended, and with them what ran here."""
        self.closing = self._ending = True
        self._fail_all(self.refusal or ActorBroken(CODE_UPDATED))
        self._go()

    async def _start(self) -> None:
        """Make and start the body; whoever waits gets the error if that fails."""
        try:
            before, self._before = self._before, None
            if before is not None:
                await before
            self.read_record()
            self._body = self._factory(self)
            await self._body.start()
        except trio.Cancelled:
            self._end()
            raise
        except BaseException as error:
            self._fail_all(error)
            if self.refusal is None:
                self.refuse(ActorBroken(f"the actor did not start: {error}"))
            self._end()
        else:
            self._started = True
            self._go_on()

    async def _process(self, delivery: Delivery) -> None:
        """Let a message pass the input gate, ahead of all later ones, and process it."""
        body = self._body
        assert body is not None
        self.open = _with(self.open, delivery)
        message, delivery.message = delivery.message, None  # it may hold a stream that ends when nobody refers to it
        try:
            result: object
            self._at_gate = True
            try:
                await body.input_open()
            finally:
                self._at_gate = False
                self._go_on()
            if delivery.identity is not None:
                if self._answers is None:
                    self._answers = Answers(self)
                result = await self._answers.once(delivery.identity, body, message)
            elif isinstance(message, TimerMessage):
                result = await self._timer(body, message)
            else:
                result = await body.receive(message)
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
        self._over(delivery)

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
        self.call_when_over(lambda gate: self._send(delivery, result, gate or error))

    def _send(self, delivery: Delivery, result: object, error: BaseException | None) -> None:
        self._over(delivery)
        if delivery.settled:
            return
        if error is not None:
            delivery.reject(error)
        else:
            delivery.resolve(result)
        if self._resting:
            self.rest()

    def _over(self, delivery: Delivery) -> None:
        self.open = _without(self.open, delivery)

    async def leave(self, refusal: ActorBroken, patience_s: float) -> None:
        """As `stop`, once what has begun is answered or `patience_s` is over; returns when the activation is gone."""
        if not self.closing:
            self.closing = True
            with trio.move_on_after(patience_s):
                while self.open or (self._body is not None and self._body.answering):
                    await trio.sleep(_LEAVE_LOOK_S)
            await self.stop(refusal)
        await self.gone

    async def stop(self, refusal: ActorBroken) -> None:
        """End the activation in an orderly way; returns when the body has stopped and its writes are durable.

        Messages that wait are kept for the next activation.
        """
        self.closing = True
        body = self._body
        if body is not None and self._started and not self._ending:
            try:
                await body.stop()
            except Exception:
                _log.exception("%s %s did not stop cleanly", self.address.namespace, self.address.id)
        self.flush()
        if self.settling:
            try:
                await self.store.commit(Batch())
            except StoreFailed:
                # The isolate ends for it; nothing that waits here is acknowledged.
                _log.error("%s %s stopped without its last writes", self.address.namespace, self.address.id)
        for delivery in self.open:
            delivery.fail(refusal)
        self.open = _NONE
        if self.refusal is None:
            self.refuse(refusal)
        self._end()
