"""What goes through an actor's mailbox."""

from __future__ import annotations

from edge_runtime.actors.turns import TurnEnd
from edge_runtime.promise import Promise


class TimerMessage:
    """Takes a due timer through the mailbox, so that it waits its turn as every event does."""

    __slots__ = ("woken",)

    def __init__(self, *, woken: bool) -> None:
        self.woken = woken
        """Somebody asked for the call, whether or not the actor's own timer is due."""


class Delivery(Promise[object]):
    """A message, and the promise of its reply. `identity`: the call may be repeated and is to be answered once; see
    `actors.answers`."""

    __slots__ = ("_turn_end", "identity", "message")

    def __init__(self, message: object, identity: bytes | None, turn_end: TurnEnd) -> None:
        # As Promise has it: one call less for each message.
        self._settled = False
        self._error = self._callbacks = None
        self.message = message
        self.identity = identity
        self._turn_end = turn_end

    def fail(self, error: BaseException) -> None:
        if not self.settled:
            self.reject(error)

    def settle_as(self, other: Promise[object]) -> None:
        if other.error is not None:
            self.fail(other.error)
        elif not self.settled:
            self.resolve(other.result())

    def _hasten(self) -> None:
        self._turn_end.now()
