"""Having instances begin that were created here: a few at a time, in the order of their creation.

Their timers would start them too, later; so whatever is lost of this with the process is done all the same. The pace
leaves their creator its turns, who may go on creating, and keeps few of them in memory: those that come first are
waited for until what they wrote is durable, when most sleep or have ended. Of those that have to wait only the first
are known here. The others are found in the index of queued instances, which is on disk.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import trio

from edge_runtime.actors.api import ActorAddress, ActorHost
from edge_runtime.errors import StoreError, StoreFull
from edge_runtime.event import EventContext, current_event
from edge_runtime.limits import STARTS_AT_ONCE_MAX, STARTS_KNOWN_MAX, WORKFLOW_RESUME_MS
from edge_runtime.seams import Clock
from edge_runtime.store.api import Batch, Store
from edge_runtime.workflows.instance.actor import Poke
from edge_runtime.workflows.stored import instances
from edge_runtime.workflows.stored.instances import InstanceRecord, Status

_TOGETHER: Final = 2

NewInstancePlace = tuple[ActorAddress, bytes]
"""An instance that was created, and its key in the index of queued ones."""


class Starts:
    """Those of one workflow of `worker`."""

    def __init__(self, actors: ActorHost, store: Store, clock: Clock, worker: str, workflow: str) -> None:
        self._actors = actors
        self._store = store
        self._clock = clock
        self._worker = worker
        self._workflow = workflow
        self._known: deque[tuple[ActorAddress, float]] = deque()
        self._rest: bytes | None = None
        """Where those begin in the index that are to follow the known ones."""
        self._running = False

    def begin(self, created: Sequence[NewInstancePlace], event: EventContext) -> None:
        """`event`: where the task is started that does it."""
        if not created:
            return
        if self._rest is None and len(self._known) + len(created) <= STARTS_KNOWN_MAX:
            late_s = self._late_s
            self._known.extend((address, late_s) for address, _ in created)
        else:
            first = min(place for _, place in created)
            self._rest = first if self._rest is None else min(self._rest, first)
        if not self._running:
            self._running = True
            event.start(self._run)

    async def begin_queued(self) -> None:
        """Have all begin that are queued, those included that an earlier process has created."""
        self._rest = b""
        if not self._running:
            self._running = True
            await self._run()

    async def _run(self) -> None:
        # The event of whoever created them has nothing to do with it, nor has its transaction.
        current_event.set(None)
        begun = 0
        try:
            while self._known or self._rest is not None:
                if not self._known:
                    self._look_up()
                for _ in range(min(_TOGETHER, len(self._known))):
                    begun += self._begin(*self._known.popleft())
                if begun < STARTS_AT_ONCE_MAX:
                    await trio.lowlevel.checkpoint()
                else:
                    begun = 0
                    with suppress(StoreFull):
                        await self._store.commit(Batch())
        except StoreError:
            # Nothing is written here any more: the isolate ends.
            pass
        finally:
            self._running = False

    def _begin(self, address: ActorAddress, late_s: float) -> bool:
        if not self._actors.owns(address) or self._has_begun(address, late_s):
            return False
        self._actors.deliver(address, Poke())
        return True

    @property
    def _late_s(self) -> float:
        """When the timers of those that are to begin now are due."""
        return self._clock.monotonic_s() + WORKFLOW_RESUME_MS / 1000

    def _look_up(self) -> None:
        """Learn of those that come next."""
        start, self._rest = self._rest, None
        late_s, now_ms = self._late_s, self._clock.now_ms()
        with self._store.snapshot() as snapshot:
            for place, id in instances.queued(snapshot, self._worker, self._workflow, start or b""):
                if len(self._known) == STARTS_KNOWN_MAX:
                    self._rest = place
                    break
                address = instances.address_of(self._worker, self._workflow, id)
                record = instances.read(snapshot, address)
                if record is not None and _begins(record, now_ms):
                    self._known.append((address, late_s))

    def _has_begun(self, address: ActorAddress, late_s: float) -> bool:
        """Its timer may have been faster, where very many were created."""
        if self._clock.monotonic_s() < late_s:
            return False
        with self._store.snapshot() as snapshot:
            record = instances.read(snapshot, address)
        return record is None or record.status is not Status.QUEUED


def _begins(record: InstanceRecord, now_ms: int) -> bool:
    return record.started_ms is None and not record.pinned and record.not_before_ms <= now_ms
