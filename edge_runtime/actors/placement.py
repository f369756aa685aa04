"""Placement: which isolate an actor belongs to. Pure.

Rendezvous hashing: every member has a score for every actor, and the highest one owns it. When a member leaves, only
its own actors move; when one enters, actors move to it and nowhere else. How members agree on who they are is told in
`supervisor.membership`.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from edge_runtime.actors.api import ActorAddress
from edge_runtime.memory import remembered

_WORD: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class View:
    """The isolates of one worker as its supervisor announced them; `number` grows with every change."""

    number: int
    agreed: tuple[int, ...]
    """Isolates that actors may live in now."""
    proposed: tuple[int, ...]
    """Isolates that are to own the actors next."""
    releasing: bool
    """Actors whose owner differs between the two lists are being given up."""

    @property
    def settled(self) -> bool:
        return self.agreed == self.proposed


FACETS: Final = "/facets"
"""At the end of the namespace of objects within objects, whose ids begin with that of the outermost one."""

NOBODY: Final = View(0, (), (), releasing=False)


def owner_of(address: ActorAddress, members: tuple[int, ...]) -> int | None:
    """The member that an actor belongs to; None without members."""
    if len(members) < 2:
        return members[0] if members else None
    return _owner_among(address, members)


@remembered(4096)
def _owner_among(address: ActorAddress, members: tuple[int, ...]) -> int:
    place = _place(address)
    return max(members, key=lambda member: (_score(place, member), member))


def route(address: ActorAddress, view: View, me: int | None) -> int | None:
    """The isolate where calls to an actor go now; None while they must be held.

    `me` is the isolate that asks, if it is one of the actor's worker: as long as nothing is released, the agreed
    members go on among themselves, so that what they have begun can end. So does everybody when nobody follows them.
    """
    if view.settled:
        return owner_of(address, view.agreed)
    now = owner_of(address, view.agreed)
    if not view.releasing and (me in view.agreed or not view.proposed):
        return now
    return now if now == owner_of(address, view.proposed) else None


def _place(address: ActorAddress) -> int:
    namespace, id = address.namespace, address.id
    if namespace.endswith(FACETS):
        # It lives where the object does that it belongs to.
        namespace, id = namespace.removesuffix(FACETS), id.partition("/")[0]
    parts = (address.worker, address.kind.value, namespace, id)
    name = "\0".join(parts).encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(name, digest_size=8).digest(), "big")


def _score(place: int, member: int) -> int:
    """Both numbers well mixed: the finaliser of splitmix64."""
    word = (place ^ (member * 0x9E3779B97F4A7C15)) & _WORD
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & _WORD
    return word ^ (word >> 31)
