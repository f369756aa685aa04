"""The connections of clients that an isolate leaves behind when it is killed.

Their sockets are taken from it at the last moment, by pidfd_getfd(2), and its marks are read again when it is dead:
where a mark is of the same connection as before, what it says then is final.

An isolate that dies by itself takes its connections along, and so does any where the system does not allow this; their
clients see them end, without an answer over HTTP/1.1. To answer them a second descriptor of each would have to be open
elsewhere all the time, and no connection would end when the isolate closes it, but only once that is told there. HTTP/2
and WebSockets end in any case, as only the isolate knows what was said on them: a WebSocket's client gets close code
1006.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
from dataclasses import dataclass
from typing import Final

from edge_runtime.connection_marks import MarksReader
from edge_runtime.supervisor.untouched import is_untouched

_PIDFD_GETFD: Final = 438  # the same on all architectures, and in no libc that is common
_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
_libc: Final = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class LeftConnection:
    client: socket.socket
    """Non-blocking, and to be closed by whom it is given to."""
    idle: bool
    """Nothing is owed to the client; what it has sent meanwhile is there to be read. Otherwise it waits for an answer
    of which nothing has been sent."""
    ran_away: bool
    """It is the answer to this client's request for which the isolate was killed."""


class LeftConnections:
    """What may be left by one isolate."""

    def __init__(self, marks: MarksReader) -> None:
        self._marks = marks
        self._taken: dict[int, tuple[int, socket.socket]] = {}
        """Of each connection's number, the descriptor in the isolate and ours."""

    def take(self, pidfd: int) -> None:
        """Call right before the isolate is killed."""
        for mark in self._marks.read():
            descriptor = _libc.syscall(_PIDFD_GETFD, pidfd, mark.descriptor, 0)
            if descriptor < 0:
                if ctypes.get_errno() == errno.EBADF:
                    continue
                return  # not allowed, dead already, or too many: it is as if there were none
            client = _client(descriptor)
            if client is not None:
                self._taken[mark.connection] = mark.descriptor, client

    def left(self, ran_away: int, undecided: set[int]) -> list[LeftConnection]:
        """Call once the isolate is dead, at most once.

        Args:
            ran_away: the number of the connection whose request it was killed for, 0 if there is none.
            undecided: inodes of sockets that were passed to it, and that it has not said it has. As long as nothing has
                been read from one, whoever passed it still has it.
        """
        found = []
        for mark in self._marks.read():
            descriptor, client = self._taken.pop(mark.connection, (-1, None))
            if client is None:
                continue
            theirs = os.fstat(client.fileno()).st_ino in undecided and is_untouched(client)
            if descriptor != mark.descriptor or theirs:
                client.close()
            else:
                found.append(LeftConnection(client, mark.idle, mark.connection == ran_away))
        self.close()
        return found

    def close(self) -> None:
        for _, client in self._taken.values():
            client.close()
        self._taken.clear()


def _client(descriptor: int) -> socket.socket | None:
    """What an isolate has marked is hostile input: anything but a stream to a client is let go."""
    try:
        client = socket.socket(fileno=descriptor)
    except OSError:
        os.close(descriptor)
        return None
    if client.type != socket.SOCK_STREAM or client.family not in _FAMILIES:
        client.close()
        return None
    client.setblocking(False)
    return client
