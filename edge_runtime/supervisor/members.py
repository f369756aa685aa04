"""The isolates of one worker by number, and everybody who is to know where its actors live."""

from __future__ import annotations

from edge_runtime.actors.placement import View
from edge_runtime.control import Members
from edge_runtime.supervisor.isolate import IsolateHandle
from edge_runtime.supervisor.membership import Membership


class MemberIsolates:
    """Drives `Membership` and announces what it decides: to the worker's isolates, the retiring ones included, and to
    isolates of other workers that asked."""

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._membership = Membership()
        self._isolates: dict[int, IsolateHandle] = {}
        self._followers: set[IsolateHandle] = set()

    @property
    def view(self) -> View:
        return self._membership.view

    def find(self, number: int) -> IsolateHandle | None:
        """A living isolate of this worker that has joined."""
        return self._isolates.get(number)

    def joined(self, isolate: IsolateHandle) -> None:
        self._isolates[isolate.number] = isolate
        if not self._membership.joined(isolate.number):
            raise AssertionError("an isolate that joins changes the view")
        self._announce()

    def retiring(self, isolate: IsolateHandle) -> None:
        if self._membership.retiring(isolate.number):
            self._announce()

    def drained(self, isolate: IsolateHandle) -> None:
        if self._membership.drained(isolate.number):
            self._announce()

    def released(self, isolate: IsolateHandle, number: int) -> None:
        if self._membership.released(isolate.number, number):
            self._announce()

    def dead(self, isolate: IsolateHandle) -> None:
        self._isolates.pop(isolate.number, None)
        if self._membership.dead(isolate.number):
            self._announce()

    def follow(self, isolate: IsolateHandle) -> None:
        """Keep telling an isolate of another worker."""
        self._followers.add(isolate)
        isolate.tell(self._message(None))

    def _announce(self) -> None:
        for number, isolate in self._isolates.items():
            isolate.tell(self._message(number))
        self._followers = {isolate for isolate in self._followers if not isolate.dead.is_set()}
        for isolate in self._followers:
            isolate.tell(self._message(None))

    def _message(self, me: int | None) -> Members:
        view = self.view
        return Members(self._worker, me, view.number, view.agreed, view.proposed, view.releasing)
