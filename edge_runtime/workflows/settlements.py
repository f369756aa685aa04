"""The promises that the script awaits, and the results that they are settled with once those are durable."""

from __future__ import annotations

from collections import deque

from edge_runtime.actors.api import ActorContext
from edge_runtime.promise import Promise
from edge_runtime.workflows.effects import Refuse, Resolve
from edge_runtime.workflows.errors import error_of
from edge_runtime.workflows.journal import StepKey
from edge_runtime.workflows.results import value_of


class Settlements:
    """Invariant: results are given in the order in which the engine gave them, each once its entry is durable."""

    def __init__(self, context: ActorContext) -> None:
        self._context = context
        self._promises: dict[StepKey, Promise[object]] = {}
        self._unsettled: deque[Resolve] = deque()

    def promise(self, key: StepKey) -> Promise[object]:
        """The promise of a step that is asked for now."""
        promise = self._promises[key] = Promise()
        return promise

    def add(self, effect: Resolve) -> None:
        self._unsettled.append(effect)

    def next(self, durable_seq: int) -> Resolve | None:
        """The result to be given next, if it is durable."""
        if self._unsettled and self._unsettled[0].seq <= durable_seq:
            return self._unsettled.popleft()
        return None

    def settle(self, effect: Resolve) -> None:
        promise = self._promises.pop(effect.key)
        try:
            value = value_of(effect.result, effect.key, self._context)
        except Exception as error:
            promise.reject(error)
        else:
            promise.resolve(value)

    def refuse(self, effect: Refuse) -> None:
        self._promises.pop(effect.key).reject(error_of(effect.error))

    def clear(self) -> None:
        self._promises.clear()
        self._unsettled.clear()
