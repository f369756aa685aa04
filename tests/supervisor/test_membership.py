"""The membership protocol: tables of what changes the view, and a model that tries to give one actor two owners."""

import random

import pytest

from edge_runtime.actors.api import ActorAddress, ActorKind
from edge_runtime.actors.placement import View, owner_of, route
from edge_runtime.supervisor.membership import Membership, losers


def address(number):
    return ActorAddress("w", ActorKind.OBJECT, "C", f"{number:064x}")


def view_after(*inputs):
    membership = Membership()
    for method, *arguments in inputs:
        getattr(membership, method)(*arguments)
    view = membership.view
    return view.agreed, view.proposed, view.releasing


JOINED_2 = [("joined", 1), ("joined", 2), ("released", 1, 2)]
"""Isolate 1 alone is view 1; 2 is proposed in view 2, which 1 acknowledges: view 3."""


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ([], ((), (), False)),
        ([("joined", 1)], ((1,), (1,), False)),
        # A second one: the first must give its share up.
        ([("joined", 1), ("joined", 2)], ((1,), (1, 2), True)),
        (JOINED_2, ((1, 2), (1, 2), False)),
        # An acknowledgement of another view, or of somebody without a say, counts for nothing.
        ([("joined", 1), ("joined", 2), ("released", 1, 1)], ((1,), (1, 2), True)),
        ([("joined", 1), ("joined", 2), ("released", 1, 3)], ((1,), (1, 2), True)),
        ([("joined", 1), ("joined", 2), ("released", 2, 2)], ((1,), (1, 2), True)),
        ([("joined", 1), ("joined", 2), ("joined", 3), ("released", 1, 2)], ((1,), (1, 2, 3), True)),
        # Death is an acknowledgement.
        ([("joined", 1), ("joined", 2), ("dead", 1)], ((2,), (2,), False)),
        ([("joined", 1), ("joined", 2), ("dead", 2)], ((1,), (1,), False)),
        ([*JOINED_2, ("dead", 1)], ((2,), (2,), False)),
        ([*JOINED_2, ("dead", 1), ("dead", 2)], ((), (), False)),
        # A death shrinks the agreed list at once, also while others have not acknowledged.
        ([*JOINED_2, ("joined", 3), ("dead", 1)], ((2,), (2, 3), True)),
        # Retirement: nothing is released before the retiring one is drained.
        ([("joined", 1), ("retiring", 1)], ((1,), (), False)),
        ([("joined", 1), ("retiring", 1), ("joined", 2)], ((1,), (2,), False)),
        ([("joined", 1), ("retiring", 1), ("joined", 2), ("drained", 1)], ((1,), (2,), True)),
        ([("joined", 1), ("retiring", 1), ("joined", 2), ("drained", 1), ("released", 1, 4)], ((2,), (2,), False)),
        ([("joined", 1), ("retiring", 1), ("joined", 2), ("dead", 1)], ((2,), (2,), False)),
        ([("joined", 1), ("retiring", 1), ("drained", 1), ("joined", 2)], ((1,), (2,), True)),
        # One of two retires: only that one has to acknowledge.
        ([*JOINED_2, ("retiring", 1), ("drained", 1)], ((1, 2), (2,), True)),
        ([*JOINED_2, ("retiring", 1), ("drained", 1), ("released", 1, 5)], ((2,), (2,), False)),
        ([*JOINED_2, ("retiring", 1), ("drained", 1), ("released", 2, 5)], ((1, 2), (2,), True)),
        # Out of turn.
        ([("joined", 1), ("drained", 1)], ((1,), (1,), False)),
        ([("joined", 1), ("released", 1, 1)], ((1,), (1,), False)),
        ([("retiring", 9), ("drained", 9), ("dead", 9), ("released", 9, 0)], ((), (), False)),
    ],
)
def test_view_after(inputs, expected):
    assert view_after(*inputs) == expected


@pytest.mark.parametrize(
    ("agreed", "proposed", "expected"),
    [
        ((), (1,), ()),
        ((1, 2), (1, 2), ()),
        ((1, 2, 3), (1, 3), (2,)),
        ((1, 2), (1, 2, 3), (1, 2)),
        ((1, 2), (1, 3), (1, 2)),
        ((1, 2), (), (1, 2)),
    ],
)
def test_losers(agreed, proposed, expected):
    assert losers(agreed, proposed) == expected


def test_only_the_actors_of_a_member_that_leaves_move_and_all_share_them():
    addresses = [address(number) for number in range(3000)]
    before = {a: owner_of(a, (1, 2, 3)) for a in addresses}
    after = {a: owner_of(a, (1, 3)) for a in addresses}
    assert all(after[a] == owner for a, owner in before.items() if owner != 2)
    counts = [sum(owner == member for owner in before.values()) for member in (1, 2, 3)]
    assert all(850 < count < 1150 for count in counts)


def test_owner_does_not_depend_on_the_order_of_members():
    assert {owner_of(address(7), members) for members in ((1, 2, 3), (3, 1, 2), (2, 3, 1))} == {
        owner_of(address(7), (1, 2, 3))
    }


def test_calls_wait_while_their_actor_moves_and_members_go_on_until_it_is_released():
    moving = next(a for a in map(address, range(100)) if owner_of(a, (1, 2)) == 2)
    staying = next(a for a in map(address, range(100)) if owner_of(a, (1, 2)) == 1)
    drain, release = View(2, (1,), (1, 2), False), View(2, (1,), (1, 2), True)
    assert [route(moving, drain, me) for me in (1, 2, None)] == [1, None, None]
    assert [route(moving, release, me) for me in (1, 2, None)] == [None, None, None]
    assert [route(staying, view, me) for view in (drain, release) for me in (1, 2, None)] == [1] * 6
    assert route(moving, View(3, (1, 2), (1, 2), False), None) == 2
    assert route(moving, View(3, (), (), False), None) is None


class ModelIsolate:
    """Reads its messages in order, some time after they were sent; holds what the last one it read lets it hold."""

    def __init__(self, number):
        self.number = number
        self.inbox = []
        self.view = View(0, (), (), False)
        self.held = set()
        self.to_release = set()
        self.stopped = False

    def read(self, acknowledge):
        if not self.inbox:
            return
        self.view = self.inbox.pop(0)
        self.held -= self.to_release
        self.to_release = set()
        if self.view.releasing:
            self.to_release = {a for a in self.held if owner_of(a, self.view.proposed) != self.number}
        acknowledge(self.number, self.view.number)

    def activate(self, actor):
        if route(actor, self.view, self.number) == self.number:
            self.held.add(actor)


@pytest.mark.parametrize("seed", range(40))
def test_no_history_gives_an_actor_to_two_living_isolates(seed):
    chance = random.Random(seed)
    actors = [address(number) for number in range(12)]
    membership = Membership()
    isolates = {}
    acknowledgements = []
    numbers = iter(range(1, 10_000))

    def announce(changed):
        if changed:
            for isolate in isolates.values():
                isolate.inbox.append(membership.view)

    def release_then_acknowledge(number, view):
        isolate = isolates[number]
        isolate.held -= isolate.to_release
        isolate.to_release = set()
        acknowledgements.append((number, view))

    activated = 0
    for _ in range(1500):
        move = chance.choice(["start", "kill", "retire", "drain", "stop", "go"] + ["read", "activate", "answer"] * 6)
        some = chance.choice(list(isolates.values())) if isolates else None
        if move == "start" and len(isolates) < 5:
            number = next(numbers)
            isolates[number] = ModelIsolate(number)
            announce(membership.joined(number))
        elif some is None:
            continue
        elif move == "kill":
            del isolates[some.number]
            announce(membership.dead(some.number))
        elif move == "retire":
            announce(membership.retiring(some.number))
        elif move == "drain":
            announce(membership.drained(some.number))
        elif move in ("stop", "go"):
            some.stopped = move == "stop"
        elif move == "read" and not some.stopped:
            some.read(release_then_acknowledge)
        elif move == "activate" and not some.stopped:
            some.activate(chance.choice(actors))
        elif move == "answer" and acknowledgements:
            number, view = acknowledgements.pop(0)
            announce(number in isolates and membership.released(number, view))
        held = [actor for isolate in isolates.values() for actor in isolate.held]
        assert len(held) == len(set(held)), f"seed {seed}"
        activated += len(held)
    assert activated
