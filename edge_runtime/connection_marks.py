"""What an isolate shows of its clients' connections, so that its death costs them no more than it must.

An anonymous file that isolate and supervisor have open, with a byte for each descriptor: which connection it is, and
whether a client waits for an answer of which nothing has been sent. A supervisor that kills an isolate takes the
sockets along, and can still answer those clients when it is dead, or have others served elsewhere.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

UNKNOWN: Final = 0
"""A mark: the connection must not be touched."""
IDLE: Final = 1
"""State, to be added to a connection's own bits: nothing has been read from it that was not answered."""
BEGUN: Final = 2
"""The same: something of a request has been read, and nothing of an answer has been sent."""
_STATE_BITS: Final = 2
_STATE: Final = (1 << _STATE_BITS) - 1
_OWN_BITS: Final = 8 - _STATE_BITS

_PLACES: Final = 64 * 1024
"""Descriptors from there on are not shown."""
_NOT_SHOWN: Final = _PLACES - 1


def marks_file() -> int:
    """The descriptor of a new one, the caller's to close."""
    file = os.memfd_create("edge-connections")
    os.ftruncate(file, _PLACES)
    return file


class ConnectionMarks:
    """The isolate's side. A connection sets `marks[place]` to its `own` bits and a state, or to UNKNOWN."""

    def __init__(self, file: int = -1) -> None:
        """In memory of its own, where nobody looks, unless a `marks_file` is given."""
        self.marks = mmap.mmap(file, _PLACES)
        self._next = 0

    def place(self, descriptor: int) -> int:
        return descriptor if 0 <= descriptor < _NOT_SHOWN else _NOT_SHOWN

    def next_own(self) -> int:
        """For a connection that begins, what tells it from those that have had its descriptor lately."""
        self._next = (self._next + 1) % (1 << _OWN_BITS)
        return self._next << _STATE_BITS


def number_of(place: int, own: int) -> int:
    """A connection's number: below 2**24, not 0, and no other one's for a long time."""
    return place << 8 | own | _STATE


@dataclass(frozen=True, slots=True)
class Mark:
    descriptor: int
    """In the isolate."""
    connection: int
    """Its number."""
    idle: bool
    """Nothing is owed to the client, and all that can be read of it is unread; otherwise an answer is."""


class MarksReader:
    """The supervisor's side, which may read what a process has left behind. What it reads is hostile input."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def close(self) -> None:
        os.close(self._descriptor)

    def read(self) -> Iterator[Mark]:
        marks = os.pread(self._descriptor, _NOT_SHOWN, 0).rstrip(b"\0")
        for descriptor, mark in enumerate(marks):
            if mark and (state := mark & _STATE) in (IDLE, BEGUN):
                yield Mark(descriptor, number_of(descriptor, mark & ~_STATE), state == IDLE)
