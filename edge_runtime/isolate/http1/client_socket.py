"""A client's connection as the HTTP/1.1 loop uses it: a non-blocking socket, and the two ways to wait for it."""

from __future__ import annotations

import socket
import struct
from collections.abc import Awaitable, Sequence
from typing import Protocol

import trio


class Client(Protocol):
    """What the loop needs of a socket. Everything but the waiting is immediate, with the errors of a non-blocking
    socket."""

    @property
    def family(self) -> int: ...

    def fileno(self) -> int: ...

    def recv(self, size: int, flags: int = 0, /) -> bytes: ...

    def send(self, data: bytes | memoryview, /) -> int: ...

    def sendmsg(self, parts: Sequence[bytes | memoryview], /) -> int: ...

    def shutdown(self, how: int, /) -> None: ...

    def close(self) -> None: ...

    def readable(self) -> Awaitable[None]:
        """Wait until `recv` has something to tell."""

    def writable(self) -> Awaitable[None]:
        """Wait until `send` takes something."""

    def stream(self) -> trio.SocketStream:
        """The same connection as trio's: this object is done with then."""

    def break_off(self) -> None:
        """Have `close` reset the connection: the client is to see that the end is not the end."""


class ClientSocket(socket.socket):
    """A handed-over connection; `ClientSocket(fileno=...)` takes the descriptor over."""

    __slots__ = ()

    def __init__(self, *, fileno: int) -> None:
        super().__init__(fileno=fileno)
        self.setblocking(False)
        if self.family != socket.AF_UNIX:
            self.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def readable(self) -> Awaitable[None]:
        return trio.lowlevel.wait_readable(self.fileno())  # noqa: ASYNC105 (a frame less for each wait)

    def writable(self) -> Awaitable[None]:
        return trio.lowlevel.wait_writable(self.fileno())  # noqa: ASYNC105 (as above)

    def close(self) -> None:
        if self.fileno() >= 0:
            trio.lowlevel.notify_closing(self.fileno())  # a script's background task may be waiting for a body
        super().close()

    def stream(self) -> trio.SocketStream:
        plain = socket.socket(fileno=self.detach())
        plain.setblocking(False)
        return trio.SocketStream(trio.socket.from_stdlib_socket(plain))

    def break_off(self) -> None:
        if self.family != socket.AF_UNIX:
            self.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
