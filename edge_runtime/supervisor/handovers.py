"""Connections that were passed to an isolate, until it has said that it has them.

It says so for all at once: it reads its channel in order, so whoever answers a ping has what was sent before it.
"""

from __future__ import annotations

import os
from collections import deque

import trio


class _Handover:
    """Connections passed to the isolate between two pings."""

    __slots__ = ("begun", "decided", "inodes", "taken")

    def __init__(self) -> None:
        self.begun = trio.Event()
        self.decided = trio.Event()
        self.inodes: set[int] = set()
        self.taken = False


class Handovers:
    def __init__(self) -> None:
        self._now = _Handover()
        self._pinged: deque[tuple[int, _Handover]] = deque()

    async def passed(self, descriptor: int) -> bool:
        """A socket was sent to the isolate; returns whether it got there, once that is known."""
        handover = self._now
        handover.inodes.add(os.fstat(descriptor).st_ino)
        handover.begun.set()
        await handover.decided.wait()
        return handover.taken

    async def wait_any(self) -> None:
        """Return when a socket was passed after the last ping."""
        await self._now.begun.wait()

    def ping_sent(self, number: int) -> None:
        if self._now.begun.is_set():
            self._pinged.append((number, self._now))
            self._now = _Handover()

    def ping_answered(self, number: int) -> None:
        while self._pinged and self._pinged[0][0] <= number:
            handover = self._pinged.popleft()[1]
            handover.taken = True
            handover.decided.set()

    def undecided(self) -> set[int]:
        """Inodes of the sockets of which it is not known whether the isolate has them."""
        return {inode for handover in self._open() for inode in handover.inodes}

    def end(self) -> None:
        """The isolate is dead: what it has not said it has, it has not got."""
        for handover in self._open():
            handover.decided.set()

    def _open(self) -> list[_Handover]:
        return [self._now, *(handover for _, handover in self._pinged)]
