"""Actors whose code has lately ended an isolate, as the supervisor tells: they are left alone for a while."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from edge_runtime.actors.api import ActorAddress, ActorKind
from edge_runtime.actors.timers import DueTimer
from edge_runtime.control import ActorDeath
from edge_runtime.errors import ActorBroken
from edge_runtime.event import EventKind
from edge_runtime.metering.panel import actor_number

_CONSTRUCTOR: Final = ".constructor"


class Deaths:
    def __init__(self) -> None:
        self._by_actor: dict[int, ActorDeath] = {}

    def learn(self, deaths: Sequence[ActorDeath]) -> None:
        self._by_actor.update((death.actor, death) for death in deaths)

    def of(self, address: ActorAddress) -> ActorDeath | None:
        """The last one of an actor."""
        return self._by_actor.get(actor_number(address)) if self._by_actor else None

    def not_before_ms(self, address: ActorAddress) -> int:
        """When the timer of an object may be fired; 0: at any time. Other actors look themselves."""
        death = self.of(address) if address.kind is ActorKind.OBJECT else None
        return 0 if death is None else death.until_ms

    def refusal(self, address: ActorAddress, now_ms: int) -> ActorBroken | None:
        """Why an object is not activated now."""
        death = self.of(address) if address.kind is ActorKind.OBJECT else None
        if death is None or not death.certain or death.until_ms <= now_ms:
            return None
        return ActorBroken(
            f"The process of this Durable Object ended while {death.name}() ran: {death.reason}. As it has before, the "
            f"object is not started again for another {(death.until_ms - now_ms) / 1000:.1f} s.",
            reset=False,
        )

    def cut_alarm(self, timer: DueTimer) -> ActorDeath | None:
        """How the process ended in the alarm that is due still, or before its handler was reached; None where it may
        have been for another reason and has not happened before."""
        death = self.of(timer.address) if timer.own and timer.address.kind is ActorKind.OBJECT else None
        if death is None or timer.due_ms > death.at_ms:
            return None
        alarm = death.kind == EventKind.ALARM or death.name.endswith(_CONSTRUCTOR)
        again = death.alone and death.until_ms > death.at_ms
        return death if alarm and (death.certain or again) else None
