"""Which isolates of a worker its actors are spread over: the supervisor's half of the protocol, pure.

Every actor belongs to one member of its worker: the one that `actors.placement.owner_of` names. What follows sees to it
that no actor is ever live in two isolates, however processes die, stand still or are replaced.

The supervisor alone decides. It keeps two lists and a number that grows with every change, and announces them to the
worker's isolates (and to isolates of other workers that call its actors) as a `View`:

    agreed     the isolates that actors may live in now
    proposed   the isolates that are to own them next; the same as `agreed` when nothing changes
    releasing  whether actors whose owner differs between the two lists are to be given up

An isolate holds an actor only while it is the actor's owner in `agreed`, and not while it is releasing it. So

    1. drain    A retiring member answers the clients that wait for it, and says so. Members go on as agreed;
                everybody else holds calls to actors that will move to somebody.
    2. release  Each member gives up the actors that it loses: takes no more messages for them, lets begun ones finish,
                stops them, makes their writes durable. Then it acknowledges the number of the view.
    3. agree    When all who may lose an actor have acknowledged this very number or are dead, the proposed list
                becomes the agreed one, and is announced. Owners activate their new actors from then on.

What makes it safe: whatever a living isolate holds, it owns in `agreed`.

    - An isolate leaves `agreed` without being asked only when its process is confirmed dead. Rendezvous hashing moves
      no actor between the others then, so nobody needs to acknowledge that, not even one that stands still.
    - An isolate enters `agreed` only after all others there have given up what the new list takes from them.
    - An acknowledgement counts for one view; every change asks for new ones.
    - An isolate that never acknowledges is killed by its heartbeat, or at the end of its grace; death acknowledges
      everything.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from edge_runtime.actors.placement import View


class Phase(Enum):
    SERVING = 1
    RETIRING = 2
    """Told to end; clients still wait for its answers, and these may need its actors."""
    DRAINED = 3


@dataclass(frozen=True, slots=True)
class MemberState:
    """For tests and the admin API."""

    isolate: int
    phase: Phase
    acknowledged: bool


class Membership:
    """Told what happens to isolates; `view` is what everybody is to know. Each method returns whether it changed.

    Isolates are known by numbers, which are never used again. Whatever comes from an isolate out of turn is ignored.
    """

    def __init__(self) -> None:
        self.view = View(0, (), (), releasing=False)
        self._phases: dict[int, Phase] = {}
        self._acknowledged: set[int] = set()

    def joined(self, isolate: int) -> bool:
        """An isolate is ready."""
        self._phases[isolate] = Phase.SERVING
        return self._update()

    def retiring(self, isolate: int) -> bool:
        """An isolate was told to end."""
        if self._phases.get(isolate) is not Phase.SERVING:
            return False
        self._phases[isolate] = Phase.RETIRING
        return self._update()

    def drained(self, isolate: int) -> bool:
        """A retiring isolate has no client waiting any more, or its time for that is over."""
        if self._phases.get(isolate) is not Phase.RETIRING:
            return False
        self._phases[isolate] = Phase.DRAINED
        return self._update()

    def released(self, isolate: int, number: int) -> bool:
        """An isolate acknowledges a view."""
        view = self.view
        if number != view.number or not view.releasing or isolate not in view.agreed:
            return False
        self._acknowledged.add(isolate)
        return self._update()

    def dead(self, isolate: int) -> bool:
        """An isolate's process is confirmed to be gone."""
        if self._phases.pop(isolate, None) is None:
            return False
        self._acknowledged.discard(isolate)
        return self._update()

    def members(self) -> tuple[MemberState, ...]:
        return tuple(
            MemberState(isolate, phase, isolate in self._acknowledged) for isolate, phase in self._phases.items()
        )

    def _update(self) -> bool:
        view = self.view
        agreed = tuple(isolate for isolate in view.agreed if isolate in self._phases)
        wanted = tuple(sorted(isolate for isolate, phase in self._phases.items() if phase is Phase.SERVING))
        draining = any(self._phases[isolate] is Phase.RETIRING for isolate in agreed)
        releasing = wanted != agreed and not draining
        if releasing:
            same = (agreed, wanted, releasing) == (view.agreed, view.proposed, view.releasing)
            acknowledged = self._acknowledged if same else set()
            if acknowledged.issuperset(losers(agreed, wanted)):
                agreed, releasing = wanted, False
        if (agreed, wanted, releasing) == (view.agreed, view.proposed, view.releasing):
            return False
        self._acknowledged = set()
        self.view = View(view.number + 1, agreed, wanted, releasing)
        return True


def losers(agreed: tuple[int, ...], proposed: tuple[int, ...]) -> tuple[int, ...]:
    """The agreed members that may hold an actor which the proposed list gives to another one."""
    grows = not set(proposed) <= set(agreed)
    return tuple(isolate for isolate in agreed if grows or isolate not in proposed)
