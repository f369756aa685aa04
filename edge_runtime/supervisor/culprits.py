"""Whose code ended an isolate, and what comes of it for the actor that it was: pure.

What the panel of a dead isolate shows is whose code was running, on the event loop and in threads; whoever only waited
is not on it. Which of them it was the panel knows for os._exit() and for crashes. For other ends, as by the kernel when
memory runs out, it may have been any.

An actor whose code may have ended an isolate is left alone for a while, which grows each time, while the others go on;
so the one that does it will be alone sooner or later. What it means for its work is decided where that is stored
(`workflows.instance.deaths`, `actors.host`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from edge_runtime.control import ActorDeath
from edge_runtime.event import EventKind
from edge_runtime.limits import ACTOR_DEATHS_KEPT
from edge_runtime.supervisor.backoff import CrashBackoff

_NAME_SHOWN: Final = 200
_RUN_BY_US: Final = (EventKind.WORKFLOW, EventKind.STEP, EventKind.ALARM)
"""Events that come again because they are not done, and not because somebody calls."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """An event whose code may have ended its isolate."""

    kind: str
    name: str
    actor: int
    """As `metering.panel.actor_number` gives it, 0 if it was no actor's."""

    def __str__(self) -> str:
        return f"{self.kind} {self.name[:_NAME_SHOWN]}"


@dataclass(frozen=True, slots=True)
class Blame:
    suspects: tuple[Suspect, ...]
    certain: bool
    """There is one, and nothing else may have ended the isolate."""

    @property
    def contained(self) -> bool:
        """Whatever it was is put off or bounded by itself: the worker's other work need not wait."""
        return bool(self.suspects) and all(
            each.actor and (self.certain or each.kind in _RUN_BY_US) for each in self.suspects
        )


def blame(suspects: Sequence[Suspect], *, doubtful: bool) -> Blame:
    """`doubtful`: it may have been none of them."""
    found = tuple(dict.fromkeys(suspects))
    return Blame(found, len(found) == 1 and not doubtful)


class Culprits:
    """The actors of one worker whose code has ended isolates lately."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[CrashBackoff, ActorDeath]] = {}

    @property
    def deaths(self) -> tuple[ActorDeath, ...]:
        """The last of each."""
        return tuple(death for _, death in self._known.values())

    def ended(self, found: Blame, reason: str, now_s: float, now_ms: int) -> tuple[ActorDeath, ...]:
        """Take note of the end of an isolate; `now_s` is monotonic, `now_ms` the wall's clock. Returns what it means
        for each actor."""
        alone = len(found.suspects) == 1
        deaths = []
        for suspect in found.suspects:
            if not suspect.actor:
                continue
            backoff, _ = self._known.pop(suspect.actor, (CrashBackoff(), None))
            until_ms = now_ms + int(backoff.crashed(now_s) * 1000)
            name = suspect.name[:_NAME_SHOWN]
            death = ActorDeath(suspect.actor, suspect.kind, name, now_ms, until_ms, alone, found.certain, reason)
            self._known[suspect.actor] = backoff, death
            deaths.append(death)
        while len(self._known) > ACTOR_DEATHS_KEPT:
            del self._known[next(iter(self._known))]
        return tuple(deaths)

    def forget(self) -> None:
        """Another version serves: its actors start with a clean record."""
        self._known.clear()
