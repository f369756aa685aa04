"""The timers of one isolate's actors: when to look next, whom to call, and what becomes of a call that fails."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial

import trio

from edge_runtime.actors.activation import Activation
from edge_runtime.actors.alarms import next_attempt, retry_delay_ms
from edge_runtime.actors.api import ActorAddress
from edge_runtime.actors.deaths import Deaths
from edge_runtime.actors.timers import DueTimer, pending, read_record, retry
from edge_runtime.control import ActorDeath
from edge_runtime.limits import ALARMS_AT_ONCE_MAX
from edge_runtime.promise import Promise
from edge_runtime.seams import Clock, Randomness
from edge_runtime.store.api import Batch, Store, Table

_log = logging.getLogger("edge.actors")


class TimerWatch:
    """Calls actors whose timer in the store is due, at least once for each: an entry goes when its call has returned
    and what that wrote is durable. A call that fails is made again, later each time."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        random: Randomness,
        worker: str,
        deaths: Deaths,
        *,
        owns: Callable[[ActorAddress], bool],
        call: Callable[[ActorAddress, bool], Promise[object]],
        activation: Callable[[ActorAddress], Activation | None],
    ) -> None:
        """`call(address, woken)` delivers the call; `woken`: somebody asked for it, whether or not the actor's own
        timer is due. `activation(address)` is the one in memory."""
        self._store = store
        self._clock = clock
        self._random = random
        self._worker = worker
        self._deaths = deaths
        self._owns = owns
        self._call = call
        self._activation = activation
        self._firing: set[ActorAddress] = set()
        self._failing: dict[ActorAddress, tuple[int, int]] = {}
        """Timers whose call raised: how often in a row, and when (ms) to try again."""
        self._sleep: trio.CancelScope | None = None
        self._asleep_until_ms: int | None = None
        self._stopped = False

    def look(self) -> None:
        """Timers have changed: look now what is due."""
        if self._sleep is not None:
            self._sleep.cancel()

    def written(self, due_ms: int) -> None:
        """A timer was set that may be due before all others."""
        if self._asleep_until_ms is None or due_ms < self._asleep_until_ms:
            self.look()

    def stop(self) -> None:
        """Calls that end from now on change nothing: their entries are whoever's that fires them next."""
        self._stopped = True

    def next_due_ms(self) -> int | None:
        """When the next call is due; earlier than now if one is overdue."""
        now_ms, later = self._clock.now_ms(), None
        with self._store.snapshot() as snapshot:
            for timer in pending(snapshot, self._worker):
                if not self._owns(timer.address):
                    continue
                retry_ms = self._not_before_ms(timer.address)
                if retry_ms <= now_ms:
                    return timer.due_ms if later is None else min(later, timer.due_ms)
                later = retry_ms if later is None else min(later, retry_ms)
        return later

    def _not_before_ms(self, address: ActorAddress) -> int:
        retry_ms = self._failing[address][1] if address in self._failing else 0
        return max(retry_ms, self._deaths.not_before_ms(address))

    async def run(self) -> None:
        """Call what is due, until cancelled."""
        while True:
            with trio.CancelScope() as self._sleep:
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
                if timer.address in self._firing or not self._owns(timer.address):
                    continue
                if len(self._firing) >= ALARMS_AT_ONCE_MAX:
                    break
                at_ms = max(timer.due_ms, self._not_before_ms(timer.address))
                cut = self._deaths.cut_alarm(timer)
                if cut is not None and self._activation(timer.address) is None:
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
        reply = self._call(timer.address, not timer.own)
        reply.add_done_callback(partial(self._fired, timer, others))

    def _fired(self, timer: DueTimer, others: Sequence[DueTimer], reply: Promise[object]) -> None:
        """The call has returned and its writes are durable, or it has failed and the timer is still there."""
        address = timer.address
        if self._stopped:
            return
        if not self._owns(address):
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
        elif (activation := self._activation(address)) is None or not activation.settling:
            self._forget_stale(timer)
            return
        self._firing.discard(address)
        self.look()

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
        activation = self._activation(timer.address)
        if activation is None or activation.due_ms != timer.due_ms:
            self._forget_timer(timer)
        else:
            self._firing.discard(timer.address)
            self.look()

    def _forget_timer(self, timer: DueTimer, others: Sequence[DueTimer] = ()) -> None:
        batch = Batch()
        for over in (timer, *others):
            batch.delete(Table.TIMERS, over.key)
        self._store.commit(batch).add_done_callback(lambda _: self._timer_forgotten(timer))

    def _timer_forgotten(self, timer: DueTimer) -> None:
        self._firing.discard(timer.address)
        self.look()
