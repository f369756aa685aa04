"""The host of all actors of one isolate: activates them, fires their timers, evicts and releases them.

Where its worker has several isolates, the host holds those actors that the members' view gives to this one.
"""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Callable, Sequence
from functools import partial

import trio

from edge_runtime.actors.activation import (
    CODE_UPDATED,
    OVERLOADED,
    STORAGE_TIMED_OUT,
    Activation,
    Delivery,
    TimerMessage,
)
from edge_runtime.actors.alarms import next_attempt, retry_delay_ms
from edge_runtime.actors.api import ActorAddress, ActorKind, BodyFactory, Elsewhere
from edge_runtime.actors.carriers import Carriers
from edge_runtime.actors.deaths import Deaths
from edge_runtime.actors.placement import NOBODY, View, owner_of, route
from edge_runtime.actors.timers import DueTimer, pending, read_record, retry
from edge_runtime.actors.turns import TurnEnd
from edge_runtime.control import ActorDeath
from edge_runtime.errors import ActorBroken, ConnectionLost, UsageError
from edge_runtime.event import Events
from edge_runtime.limits import (
    ACTOR_QUEUE_MAX,
    ACTOR_SWEEP_S,
    ACTOR_WAVE,
    ACTOR_WAVE_SWEEPS_MAX,
    ALARMS_AT_ONCE_MAX,
    MOVE_PATIENCE_S,
    STORAGE_TIMEOUT_S,
)
from edge_runtime.memory import give_back
from edge_runtime.promise import Promise
from edge_runtime.seams import Clock, Offload, Randomness
from edge_runtime.store.api import Batch, Store, Table

_log = logging.getLogger("edge.actors")


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
        """`sweep_s`: how often idle actors are looked for; `give_back()` is called when many have been evicted."""
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
        self._sweep_s = sweep_s
        self._factories: dict[tuple[str, ActorKind, str], BodyFactory] = {}
        self._activations: dict[ActorAddress, Activation] = {}
        self._settling: dict[ActorAddress, Promise[None]] = {}
        self._turn_end = TurnEnd()
        self._carriers = Carriers()
        self._nursery: trio.Nursery | None = None
        self._tasks = contextvars.Context()
        self._released: ActorBroken | None = None
        self._firing: set[ActorAddress] = set()
        self._failing: dict[ActorAddress, tuple[int, int]] = {}
        """Timers whose call raised: how often in a row, and when (ms) to try again."""
        self._timer_sleep: trio.CancelScope | None = None
        self._asleep_until_ms: int | None = None
        self._populated = trio.Event()
        self._give_back = give_back
        self._evicted = 0
        """Since memory was last given back."""

    def register(self, worker: str, kind: ActorKind, namespace: str, factory: BodyFactory) -> None:
        self._factories[worker, kind, namespace] = factory

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Own the actors' tasks until cancelled or released."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._tasks = contextvars.copy_context()
                self._carriers.open(nursery)
                nursery.start_soon(self._turn_end.run)
                nursery.start_soon(self._watch_timers)
                nursery.start_soon(self._sweep)
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
            timer_written=self._timer_written,
            before=self._settling.pop(address, None),
            ended=self._ended,
            evict=self._evict,
        )
        self._activations[address] = activation
        self._populated.set()
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
        if self._timer_sleep is not None and worker in (None, self._worker):
            self._timer_sleep.cancel()
        if self._elsewhere is not None and worker is not None:
            alone = worker == self._worker and self._view.agreed == self._view.proposed == (self._me,)
            if not alone:
                self._elsewhere.timers_written(worker)

    def _timer_written(self, due_ms: int) -> None:
        if self._asleep_until_ms is None or due_ms < self._asleep_until_ms:
            self.timers_changed()

    @property
    def next_due_ms(self) -> int | None:
        return self._next_due_ms(self._clock.now_ms())

    def _next_due_ms(self, now_ms: int) -> int | None:
        later = None
        with self._store.snapshot() as snapshot:
            for timer in pending(snapshot, self._worker):
                if not self.owns(timer.address):
                    continue
                retry_ms = self._not_before_ms(timer.address)
                if retry_ms <= now_ms:
                    return timer.due_ms if later is None else min(later, timer.due_ms)
                later = retry_ms if later is None else min(later, retry_ms)
        return later

    def _not_before_ms(self, address: ActorAddress) -> int:
        retry_ms = self._failing[address][1] if address in self._failing else 0
        return max(retry_ms, self._deaths.not_before_ms(address))

    async def _watch_timers(self) -> None:
        while True:
            with trio.CancelScope() as self._timer_sleep:
                self._asleep_until_ms = self._fire_due()
                if self._asleep_until_ms is None:
                    await trio.sleep_forever()
                await self._clock.sleep_until_ms(self._asleep_until_ms)

    def _fire_due(self) -> int | None:
        """Start what is due, as far as there is room; returns when to look again if nobody says so earlier."""
        now_ms = self._clock.now_ms()
        again_ms = None
        woken: dict[ActorAddress, list[DueTimer]] = {}
        with self._store.snapshot() as snapshot:
            for timer in pending(snapshot, self._worker):
                if timer.address in woken and timer.due_ms <= now_ms and not timer.own:
                    # Its message comes after this look at the store, so one does for all who ask for it here.
                    woken[timer.address].append(timer)
                    continue
                if timer.address in self._firing or not self.owns(timer.address):
                    continue
                if len(self._firing) >= ALARMS_AT_ONCE_MAX:
                    break
                at_ms = max(timer.due_ms, self._not_before_ms(timer.address))
                cut = self._deaths.cut_alarm(timer)
                if cut is not None and timer.address not in self._activations:
                    self._firing.add(timer.address)
                    self._count_cut(timer, cut)
                elif at_ms <= now_ms:
                    self._firing.add(timer.address)
                    if timer.own:
                        self._fire(timer)
                    else:
                        woken[timer.address] = [timer]
                else:
                    again_ms = at_ms if again_ms is None else min(again_ms, at_ms)
                    if timer.due_ms > now_ms:
                        break
        for first, *others in woken.values():
            self._fire(first, others)
        return again_ms

    def _fire(self, timer: DueTimer, others: Sequence[DueTimer] = ()) -> None:
        """`others`: further wake-ups of the same actor."""
        address = timer.address
        if (address.worker, address.kind, address.namespace) in self._factories:
            reply = self._deliver(address, Delivery(TimerMessage(woken=not timer.own), None, self._turn_end), None)
        else:
            reply = Promise.rejected(UsageError(f"no {address.kind} namespace {address.namespace!r} is configured"))
        reply.add_done_callback(partial(self._fired, timer, others))

    def _fired(self, timer: DueTimer, others: Sequence[DueTimer], reply: Promise[object]) -> None:
        """The call has returned and its writes are durable, or it has failed and the timer is still there."""
        address = timer.address
        if self._released is not None:
            return
        if not self.owns(address):
            self._failing.pop(address, None)
            self._firing.discard(address)
            return
        if reply.error is not None:
            self._fire_failed(timer, reply.error)
        elif reply.result() or not timer.own:
            self._failing.pop(address, None)
            if not timer.own:
                self._forget_timer(timer, others)
                return
        elif (activation := self._activations.get(address)) is None or not activation.settling:
            self._forget_stale(timer)
            return
        self._firing.discard(address)
        self.timers_changed()

    def _fire_failed(self, timer: DueTimer, error: BaseException) -> None:
        address = timer.address
        count = self._failing[address][0] if address in self._failing else 0
        delay_ms = retry_delay_ms(count, self._fraction())
        self._failing[address] = (count + 1, self._clock.now_ms() + delay_ms)
        _log.warning(
            "the timer of %s %s %s failed and is kept; next attempt in %d ms: %s",
            address.kind,
            address.namespace,
            address.id,
            delay_ms,
            error,
        )

    def _count_cut(self, timer: DueTimer, death: ActorDeath) -> None:
        """An alarm that ended its process has failed: set its next attempt, or drop it after the last."""
        address, batch = timer.address, Batch()
        with self._store.snapshot() as snapshot:
            record = read_record(snapshot, address)
            retries = 0 if record is None else record.retries
            due_ms = next_attempt(retries, self._clock.now_ms(), self._fraction())
            if record is None or record.due_ms != timer.due_ms:
                batch.delete(Table.TIMERS, timer.key)
            else:
                retry(batch, snapshot, timer, due_ms)
        next_is = (
            f"dropped after {retries} retries"
            if due_ms is None
            else f"tried again in {due_ms - self._clock.now_ms()} ms"
        )
        _log.error(
            "the alarm of %s %s ended its process (%s) and is %s", address.namespace, address.id, death.reason, next_is
        )
        self._store.commit(batch).add_done_callback(lambda _: self._timer_forgotten(timer))

    def _fraction(self) -> float:
        return int.from_bytes(self._random.bytes(2), "big") / 65536

    def _forget_stale(self, timer: DueTimer) -> None:
        """Remove an entry that its actor's record no longer names."""
        activation = self._activations.get(timer.address)
        if activation is None or activation.due_ms != timer.due_ms:
            self._forget_timer(timer)
        else:
            self._firing.discard(timer.address)
            self.timers_changed()

    def _forget_timer(self, timer: DueTimer, others: Sequence[DueTimer] = ()) -> None:
        batch = Batch()
        for over in (timer, *others):
            batch.delete(Table.TIMERS, over.key)
        self._store.commit(batch).add_done_callback(lambda _: self._timer_forgotten(timer))

    def _timer_forgotten(self, timer: DueTimer) -> None:
        self._firing.discard(timer.address)
        self.timers_changed()

    # Eviction

    @property
    def active(self) -> int:
        return sum(not activation.idle for activation in self._activations.values())

    def in_memory(self, kind: ActorKind, namespace: str) -> tuple[str, ...]:
        """Ids of the actors of a namespace that are activated here, idle ones included."""
        return tuple(
            address.id for address in self._activations if (address.kind, address.namespace) == (kind, namespace)
        )

    async def _sweep(self) -> None:
        """Evict idle actors and break those whose writes take too long. Return the memory after a wave of evictions:
        when nothing more was found to evict, or when it goes on and on."""
        sweeps = 0
        while True:
            if not self._activations and self._evicted < ACTOR_WAVE:
                self._populated = trio.Event()
                await self._populated.wait()
            await trio.sleep(self._sweep_s)
            before = self._evicted
            self._sweep_once()
            sweeps += 1
            if self._evicted >= ACTOR_WAVE and (self._evicted == before or sweeps >= ACTOR_WAVE_SWEEPS_MAX):
                self._give_back()
                self._evicted = 0
            if not self._evicted:
                sweeps = 0

    def _sweep_once(self) -> None:
        now_s = self._clock.monotonic_s()
        for activation in list(self._activations.values()):
            if activation.closing:
                continue
            oldest_s = activation.oldest_commit_s
            if oldest_s is not None and now_s - oldest_s > STORAGE_TIMEOUT_S:
                activation.abort(ActorBroken(STORAGE_TIMED_OUT, overloaded=True))
            elif activation.idle and (now_s - activation.touched_s) * 1000 >= activation.idle_ms:
                self._evict(activation)

    def _evict(self, activation: Activation) -> None:
        assert self._nursery is not None
        activation.closing = True
        self._evicted += 1
        self._tasks.run(self._nursery.start_soon, activation.stop, ActorBroken(CODE_UPDATED))


def _fail_waiting(activation: Activation, error: ActorBroken) -> None:
    while activation.waiting:
        activation.waiting.pop(0).fail(error)
