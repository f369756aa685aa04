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
from edge_runtime.workflows.instance import Poke

_TOGETHER: Final = 2


class Starts:
    def __init__(self, actors: ActorHost) -> None:
        self._actors = actors
        self._waiting: deque[ActorAddress] = deque()
        self._running = False

    def begin(self, addresses: Sequence[ActorAddress], event: EventContext) -> None:
        """`event`: where the task is started that does it."""
        self._waiting += addresses
        if not self._running and addresses:
            self._running = True
            event.start(self._run)

    async def _run(self) -> None:
        try:
            while self._waiting:
                for _ in range(min(_TOGETHER, len(self._waiting))):
                    address = self._waiting.popleft()
                    if self._actors.owns(address):
                        self._actors.deliver(address, Poke())
                await trio.lowlevel.checkpoint()
        finally:
            self._running = False
