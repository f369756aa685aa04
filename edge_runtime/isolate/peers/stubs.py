"""Stubs whose target is in another isolate: what was lent to it, and what it has lent to this one."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any, Protocol

import trio

from edge_runtime.errors import WireError
from edge_runtime.frames import Message
from edge_runtime.isolate.peers.frames import CallStub, FetchStub, StubReleased
from edge_runtime.isolate.peers.values import Ends, pack, pack_request
from edge_runtime.promise import Promise
from edge_runtime.workers.lending import Target


class StubLink(Ends, Protocol):
    """What a borrowed stub needs of the link that it came by."""

    lost: bool

    def ask(self, make: Callable[[int], Message]) -> Promise[Any]: ...

    def post(self, frame: Message) -> None: ...


class LentStubs:
    """What the other isolate may call here, until it gives it back or is gone."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._targets: dict[int, Target] = {}

    def lend(self, target: Target) -> int:
        number = next(self._numbers)
        target.hold()
        self._targets[number] = target
        return number

    def find(self, number: int) -> Target:
        target = self._targets.get(number)
        if target is None:
            raise WireError(f"nothing was lent as {number}")
        return target

    def given_back(self, number: int) -> None:
        self.find(number).release()
        del self._targets[number]

    def lost(self) -> None:
        targets, self._targets = self._targets, {}
        for target in targets.values():
            target.release()


class BorrowedStub:
    """`Target` of something that the other isolate lent to this one; given back when nobody holds it any more, or has
    it without ever having held it."""

    def __init__(self, link: StubLink, number: int) -> None:
        self._link = link
        self._number = number
        self._holders = 0
        self._returned = False
        self._token = trio.lowlevel.current_trio_token()

    def invoke(self, method: str | None, args: list[Any]) -> Promise[Any]:
        link = self._link
        return link.ask(lambda call: CallStub(call, self._number, method, pack(args, link)))

    def fetch(self, request: Any) -> Promise[Any]:
        link = self._link
        return link.ask(lambda call: FetchStub(call, self._number, pack_request(request, link)))

    def hold(self) -> None:
        self._holders += 1

    def release(self) -> None:
        self._holders -= 1
        if not self._holders and not self._returned:
            self._returned = True
            self._link.post(StubReleased(self._number))

    def __del__(self) -> None:
        if not self._returned and not self._link.lost:
            # The collector may run in any thread.
            try:
                self._token.run_sync_soon(self._link.post, StubReleased(self._number))
            except trio.RunFinishedError:
                return
