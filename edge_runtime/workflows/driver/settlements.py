"""The promises that the script awaits, and the results that they are settled with once those are durable."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

import trio

from edge_runtime.actors.api import ActorContext
from edge_runtime.event import EventContext
from edge_runtime.promise import Promise
from edge_runtime.workflows.core.effects import Refuse, Resolve
from edge_runtime.workflows.core.journal import StepKey
from edge_runtime.workflows.script.errors import error_of
from edge_runtime.workflows.script.results import value_of

_AT_ONCE_MAX: Final = 64  # results of a replay, before the other tasks of the isolate have their turn


class Settlements:
    """Invariant: results are given in the order in which the engine gave them, each once its entry is durable.

    `given` is told of each, before the script is.
    """

    def __init__(self, context: ActorContext, event: EventContext, given: Callable[[StepKey], None]) -> None:
        self._context = context
        self._event = event
        self._given = given
        self._promises: dict[StepKey, Promise[object]] = {}
        self._unsettled: deque[Resolve] = deque()
        self._durable_seq = 0
        self._at_once = 0
        self._in_turn: Promise[None] = Promise.resolved(None)
        """Pending while a replay lets the other tasks have their turn."""

    def promise(self, key: StepKey) -> Promise[object]:
        """The promise of a step that is asked for now."""
        promise = self._promises[key] = Promise()
        return promise

    def give(self, effect: Resolve, durable_seq: int) -> None:
        """Settle the promise of a step: now, where the journal has the result, or else when `durable` tells of it."""
        self._durable_seq = durable_seq
        if effect.seq > durable_seq or self._unsettled:
            self._unsettled.append(effect)
        elif self._at_once < _AT_ONCE_MAX:
            self._at_once += 1
            self._settle(effect)
        else:
            self._unsettled.append(effect)
            if self._in_turn.settled:
                self._in_turn = Promise()
                self._event.start(self._give_in_turn, self._in_turn)

    def durable(self, seq: int) -> None:
        """Entries up to `seq` are durable."""
        self._durable_seq = seq
        while self._unsettled and self._unsettled[0].seq <= seq:
            self._settle(self._unsettled.popleft())

    async def _give_in_turn(self, over: Promise[None]) -> None:
        await trio.lowlevel.checkpoint()
        self._at_once = 0
        self.durable(self._durable_seq)
        over.resolve(None)

    def after(self, committed: Promise[None]) -> Promise[None]:
        """Resolves when what was given before is with the script; `committed` is the last commit."""
        return committed if self._in_turn.settled else self._in_turn

    def _settle(self, effect: Resolve) -> None:
        self._given(effect.key)
        promise = self._promises.pop(effect.key)
        try:
            value = value_of(effect.result, effect.key, self._context)
        except Exception as error:
            promise.reject(error)
        else:
            promise.resolve(value)

    def refuse(self, effect: Refuse) -> None:
        self._promises.pop(effect.key).reject(error_of(effect.error))

    def close(self) -> None:
        """Give nothing any more."""
        self._unsettled.clear()

    def let_go(self) -> None:
        """After `close`: tell nobody any more."""
        self._promises.clear()
        self._given = _nothing


def _nothing(_: StepKey) -> None:
    pass
