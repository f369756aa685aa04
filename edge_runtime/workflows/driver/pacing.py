"""When a script counts as having reacted to a result, and when as waiting in vain for one that is held back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from edge_runtime.event import EventContext
from edge_runtime.limits import REPLAY_STALL_MS, ROLLBACK_STALL_MS
from edge_runtime.promise import Promise
from edge_runtime.seams import Clock
from edge_runtime.workflows.core.effects import Delivered, Input, Stalled
from edge_runtime.workflows.core.engine import Engine

# How often other tasks get their turn before a script counts as having reacted to a result. A result passes through a
# few tasks at most: a gather, a task group, the two loops of the asyncio flavour.
_BREATH_TURNS: Final = 8


class Pacing:
    def __init__(self, engine: Engine, event: EventContext, clock: Clock, put_in: Callable[[Input], None]) -> None:
        self._engine = engine
        self._event = event
        self._clock = clock
        self._put_in = put_in
        self._breathing = False
        self._stall_watched = False
        self.inputs = 0
        """How many the engine has taken."""
        self.closed = False

    def let_go(self) -> None:
        """Put in nothing any more."""
        self._put_in = _nothing

    def breathe(self, durable: Promise[None]) -> None:
        """Put in `Delivered` once the script has had the chance to react to what it got when `durable` resolved."""
        if not self._breathing:
            self._breathing = True
            self._event.spawn(self._breathe, durable)

    async def _breathe(self, durable: Promise[None]) -> None:
        await durable
        for _ in range(_BREATH_TURNS):
            await trio.lowlevel.checkpoint()
        self._breathing = False
        self._put_in(Delivered())

    def watch_stall(self) -> None:
        """The engine holds a result back: release it once the script has asked for nothing new for a while."""
        if not self._stall_watched:
            self._stall_watched = True
            self._event.spawn(self._watch_stall)

    async def _watch_stall(self) -> None:
        while self._engine.holding and not self.closed:
            inputs = self.inputs
            stall_ms = ROLLBACK_STALL_MS if self._engine.undoing else REPLAY_STALL_MS
            await self._clock.sleep_until_ms(self._clock.now_ms() + stall_ms)
            if self.inputs == inputs and self._engine.holding:
                self._put_in(Stalled())
        self._stall_watched = False


def _nothing(_: Input) -> None:
    pass
