"""Connections in memory for both HTTP implementations: what a client sends in given pieces, what it gets back."""

from __future__ import annotations

import socket
from collections import deque

import trio
import trio.testing


class MemoryStream:
    """What hypercorn needs of a `trio.SocketStream`. The client's end comes when the server has nothing left to do."""

    family = socket.AF_INET

    def __init__(self, pieces, received):
        self.socket = self
        self._pieces = pieces
        self._received = received
        self._ended = False

    def fileno(self):
        return -1

    def getpeername(self):
        return ("127.0.0.1", 1)

    def getsockname(self):
        return ("127.0.0.1", 2)

    async def receive_some(self, size):
        await trio.lowlevel.checkpoint()
        if self._pieces:
            return self._pieces.popleft()
        await trio.testing.wait_all_tasks_blocked()
        return b""

    async def send_all(self, data):
        await trio.lowlevel.checkpoint()
        if self._ended:
            raise trio.ClosedResourceError
        self._received += data

    async def send_eof(self):
        self._ended = True

    async def aclose(self):
        self._ended = True
        await trio.lowlevel.checkpoint()


class MemoryClient:
    """`http1.client_socket.Client`, without waiting: the client's pieces are there whenever they are asked for."""

    family = socket.AF_INET

    def __init__(self, pieces):
        self._pieces = deque(pieces)
        self._arrived = True
        self.received = bytearray()
        """What the server has sent."""
        self.broken_off = False

    def fileno(self):
        return -1

    def recv(self, size, flags=0):
        if not self._arrived:
            self._arrived = True
            raise BlockingIOError
        self._arrived = False
        return self._pieces.popleft() if self._pieces else b""

    def send(self, data):
        self.received += data
        return len(data)

    def sendmsg(self, parts):
        return sum(self.send(part) for part in parts)

    def shutdown(self, how):
        pass

    def close(self):
        self._pieces.clear()

    def break_off(self):
        self.broken_off = True

    async def readable(self):
        self._arrived = True

    async def writable(self):
        await trio.lowlevel.checkpoint()

    def stream(self):
        return MemoryStream(self._pieces, self.received)
