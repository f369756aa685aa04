"""The host of all actors of one isolate: activates and releases them. `eviction` takes idle ones out of memory,
`timer_watch` fires their timers.

Where its worker has several isolates, the host holds those actors that the members' view gives to this one.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Sequence
from functools import partial

import trio

from edge_runtime.actors.activation import CODE_UPDATED, OVERLOADED, Activation
from edge_runtime.actors.api import ActorAddress, ActorKind, BodyFactory, Elsewhere
from edge_runtime.actors.carriers import Carriers
from edge_runtime.actors.deaths import Deaths
from edge_runtime.actors.delivery import Delivery, TimerMessage
from edge_runtime.actors.eviction import Eviction
from edge_runtime.actors.placement import NOBODY, View, owner_of, route
from edge_runtime.actors.timer_watch import TimerWatch
from edge_runtime.actors.turns import TurnEnd
from edge_runtime.control import ActorDeath
from edge_runtime.errors import ActorBroken, ConnectionLost, UsageError
from edge_runtime.event import Events
from edge_runtime.limits import ACTOR_QUEUE_MAX, ACTOR_SWEEP_S, MOVE_PATIENCE_S
from edge_runtime.memory import give_back
from edge_runtime.promise import Promise
from edge_runtime.seams import Clock, Offload, Randomness
from edge_runtime.store.api import Batch, Store


class LocalActorHost:
    """`actors.api.ActorHost` for one isolate. Without `elsewhere` it owns every actor of its worker; with it, none
    before the first `change_view`."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        random: Randomness,
        offload: Offload,
        events: Events,
        worker: str,
        sweep_s: float = ACTOR_SWEEP_S,
        elsewhere: Elsewhere | None = None,
        give_back: Callable[[], None] = give_back,
    ) -> None:
        """`sweep_s`: how often idle actors are looked for; math.inf: all stay in memory. `give_back()` is called when
        many have been evicted."""
        self._deaths = Deaths()
        self._elsewhere = elsewhere
        self._me = 0
        self._view = NOBODY
        self._moved = trio.Event()
        self._on_release: list[Callable[[Callable[[ActorAddress], bool]], None]] = []
        self._store = store
        self._clock = clock
        self._random = random
        self._offload = offload
        self._events = events
        self._worker = worker
        self._factories: dict[tuple[str, ActorKind, str], BodyFactory] = {}
        self._activations: dict[ActorAddress, Activation] = {}
        self._settling: dict[ActorAddress, Promise[None]] = {}
        self._turn_end = TurnEnd()
        self._carriers = Carriers()
        self._nursery: trio.Nursery | None = None
        self._tasks = contextvars.Context()
        self._released: ActorBroken | None = None
        self._timers = TimerWatch(
            store,
            clock,
            random,
            worker,
            self._deaths,
            owns=self.owns,
            call=self._call_timer,
            activation=self._activations.get,
        )
        self._eviction = Eviction(self._activations, clock, sweep_s, give_back)

    def register(self, worker: str, kind: ActorKind, namespace: str, factory: BodyFactory) -> None:
        self._factories[worker, kind, namespace] = factory

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Own the actors' tasks until cancelled or released."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._tasks = contextvars.copy_context()
                self._carriers.open(nursery)
                self._eviction.open(nursery, self._tasks)
                nursery.start_soon(self._turn_end.run)
                nursery.start_soon(self._timers.run)
                nursery.start_soon(self._eviction.run)
                task_status.started()
        finally:
            self._nursery = None
            self._carriers.close()
            for activation in tuple(self._activations.values()):
                activation.cut_off()

    async def release(self) -> None:
        """Give all actors up: accept nothing more, stop the bodies, make their writes durable, cancel what still runs.

        When this returns, nothing of this host writes any more. Calls that did not complete fail with ActorBroken, as
        later deliveries do.
        """
        if self._released is not None:
            return
        refusal = self._released = ActorBroken(CODE_UPDATED)
        self._timers.stop()
        async with trio.open_nursery() as nursery:
            for activation in self._activations.values():
                _fail_waiting(activation, refusal)
                nursery.start_soon(activation.stop, refusal)
        for activation in self._activations.values():
            _fail_waiting(activation, refusal)
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    def deliver(
        self, address: ActorAddress, message: object, *, name: str | None = None, identity: bytes | None = None
    ) -> Promise[object]:
        activation = self._activations.get(address)
        if activation is not None and self._released is None:
            if len(activation.waiting) + len(activation.open) >= ACTOR_QUEUE_MAX:
                return Promise.rejected(ActorBroken(OVERLOADED, retryable=False, overloaded=True, reset=False))
            delivery = Delivery(message, identity, self._turn_end)
            activation.deliver(delivery, name)
            return delivery
        if activation is None:
            if self._elsewhere is not None and (address.worker != self._worker or not self.owns(address)):
                return self._elsewhere.forward(address, message, name, identity)
            if (address.worker, address.kind, address.namespace) not in self._factories:
                return Promise.rejected(
                    UsageError(f"worker {address.worker} has no {address.kind} namespace {address.namespace!r}")
                )
        return self._deliver(address, Delivery(message, identity, self._turn_end), name)

    # Placement

    def owns(self, address: ActorAddress) -> bool:
        if self._elsewhere is None:
            return True
        if address.worker != self._worker:
            return False
        return address in self._activations or route(address, self._view, self._me) == self._me

    def change_view(self, view: View, me: int) -> None:
        """Take note of where the worker's actors live from now on; `me` is this isolate's number."""
        self._view, self._me = view, me
        moved, self._moved = self._moved, trio.Event()
        moved.set()
        self.timers_changed()

    def on_release(self, callback: Callable[[Callable[[ActorAddress], bool]], None]) -> None:
        self._on_release.append(callback)

    def learn_deaths(self, deaths: Sequence[ActorDeath]) -> None:
        self._deaths.learn(deaths)

    def death_of(self, address: ActorAddress) -> ActorDeath | None:
        return self._deaths.of(address)

    async def moved(self) -> None:
        await self._moved.wait()

    async def release_lost(self, proposed: tuple[int, ...], patience_s: float = MOVE_PATIENCE_S) -> None:
        """Give up the actors that the proposed members take from this isolate, and return when none of them runs here
        or writes any more. Calls that have begun may end within `patience_s`; others go where the actor goes."""
        me = self._me
        lost = [it for it in self._activations.values() if owner_of(it.address, proposed) != me]
        refusal = ActorBroken(CODE_UPDATED) if me not in proposed else ConnectionLost()
        async with trio.open_nursery() as nursery:
            for activation in lost:
                nursery.start_soon(activation.leave, refusal, patience_s)
        # Batches of activations that broke are behind this one's back otherwise.
        await self._store.commit(Batch())
        for callback in self._on_release:
            callback(lambda address: owner_of(address, proposed) == me)

    def _deliver(self, address: ActorAddress, delivery: Delivery, name: str | None) -> Promise[object]:
        activation = self._activations.get(address)
        if activation is None:
            if self._released is not None or self._nursery is None:
                return Promise.rejected(self._released or ActorBroken("the actors of this worker are not running"))
            refusal = self._deaths.refusal(address, self._clock.now_ms())
            if refusal is not None:
                return Promise.rejected(refusal)
            activation = self._activate(address, name)
        elif self._released is not None:
            return Promise.rejected(self._released)
        activation.deliver(delivery, name)
        return delivery

    def _activate(self, address: ActorAddress, name: str | None) -> Activation:
        activation = Activation(
            address,
            name,
            self._factories[address.worker, address.kind, address.namespace],
            store=self._store,
            clock=self._clock,
            random=self._random,
            offload=self._offload,
            events=self._events,
            turn_end=self._turn_end,
            carriers=self._carriers,
            tasks=self._tasks,
            timer_written=self._timers.written,
            before=self._settling.pop(address, None),
            ended=self._ended,
            evict=self._eviction.evict,
        )
        self._activations[address] = activation
        self._eviction.populated.set()
        return activation

    def _ended(self, activation: Activation) -> None:
        address = activation.address
        del self._activations[address]
        if activation.settling:
            # The next activation must read what this one has queued, and nothing older.
            self._settling[address] = self._store.commit(Batch())
            self._settling[address].add_done_callback(partial(self._settled, address))
        self._succeed(activation)

    def _settled(self, address: ActorAddress, promise: Promise[None]) -> None:
        if self._settling.get(address) is promise:
            del self._settling[address]

    def _succeed(self, ended: Activation) -> None:
        """Pass what arrived while an activation ended to a new one."""
        if not ended.waiting:
            return
        if self._nursery is None or self._released is not None or self._nursery.cancel_scope.cancel_called:
            _fail_waiting(ended, self._released or ActorBroken(CODE_UPDATED))
            return
        if self._elsewhere is not None and not self.owns(ended.address):
            self._forward_waiting(ended, self._elsewhere)
            return
        successor = self._activate(ended.address, ended.name)
        for delivery in ended.waiting:
            successor.deliver(delivery, None)

    def _forward_waiting(self, ended: Activation, elsewhere: Elsewhere) -> None:
        while ended.waiting:
            delivery = ended.waiting.pop(0)
            if isinstance(delivery.message, TimerMessage):
                # The new owner fires it.
                delivery.fail(ActorBroken(CODE_UPDATED))
            else:
                sent = elsewhere.forward(ended.address, delivery.message, ended.name, delivery.identity)
                sent.add_done_callback(delivery.settle_as)

    # Timers

    def timers_changed(self, worker: str | None = None) -> None:
        if worker in (None, self._worker):
            self._timers.look()
        if self._elsewhere is not None and worker is not None:
            alone = worker == self._worker and self._view.agreed == self._view.proposed == (self._me,)
            if not alone:
                self._elsewhere.timers_written(worker)

    @property
    def next_due_ms(self) -> int | None:
        return self._timers.next_due_ms()

    def _call_timer(self, address: ActorAddress, woken: bool) -> Promise[object]:
        if (address.worker, address.kind, address.namespace) not in self._factories:
            return Promise.rejected(UsageError(f"no {address.kind} namespace {address.namespace!r} is configured"))
        return self._deliver(address, Delivery(TimerMessage(woken=woken), None, self._turn_end), None)

    # For whoever asks

    @property
    def active(self) -> int:
        return sum(not activation.idle for activation in self._activations.values())

    def in_memory(self, kind: ActorKind, namespace: str) -> tuple[str, ...]:
        """Ids of the actors of a namespace that are activated here, idle ones included."""
        return tuple(
            address.id for address in self._activations if (address.kind, address.namespace) == (kind, namespace)
        )


def _fail_waiting(activation: Activation, error: ActorBroken) -> None:
    while activation.waiting:
        activation.waiting.pop(0).fail(error)
