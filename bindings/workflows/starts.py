"""Having instances begin that were created here: a few at a time, in the order of their creation.

Their timers would start them too, later; so whatever is lost of this with the process is done all the same. The pace
leaves their creator its turns, who may go on creating.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

import trio

from edge_runtime.actors.api import ActorAddress, ActorHost
from edge_runtime.event import EventContext
from edge_runtime.limits import WORKFLOW_RESUME_MS
from edge_runtime.seams import Clock
from edge_runtime.store.api import Store
from edge_runtime.workflows import instances
from edge_runtime.workflows.instance import Poke
from edge_runtime.workflows.instances import Status

_TOGETHER: Final = 2


class Starts:
    def __init__(self, actors: ActorHost, store: Store, clock: Clock) -> None:
        self._actors = actors
        self._store = store
        self._clock = clock
        self._waiting: deque[tuple[ActorAddress, float]] = deque()
        self._running = False

    def begin(self, addresses: Sequence[ActorAddress], event: EventContext) -> None:
        """`event`: where the task is started that does it."""
        late_s = self._clock.monotonic_s() + WORKFLOW_RESUME_MS / 1000
        self._waiting.extend((address, late_s) for address in addresses)
        if not self._running and addresses:
            self._running = True
            event.start(self._run)

    async def _run(self) -> None:
        try:
            while self._waiting:
                for _ in range(min(_TOGETHER, len(self._waiting))):
                    address, late_s = self._waiting.popleft()
                    if self._actors.owns(address) and not self._has_begun(address, late_s):
                        self._actors.deliver(address, Poke())
                await trio.lowlevel.checkpoint()
        finally:
            self._running = False

    def _has_begun(self, address: ActorAddress, late_s: float) -> bool:
        """Its timer may have been faster, where very many were created."""
        if self._clock.monotonic_s() < late_s:
            return False
        with self._store.snapshot() as snapshot:
            record = instances.read(snapshot, address)
        return record is None or record.status is not Status.QUEUED
