"""Bytes on their way out of a socket: what the kernel takes goes at once, the rest is sent by a task.

So a sender never waits, and a connection at rest has no task for what it might send. What is to be encrypted is sent by
a task always.
"""

from __future__ import annotations

import contextvars
import os
from abc import ABC, abstractmethod
from collections import deque

import trio

from edge_runtime.limits import WEBSOCKET_UNSENT_MAX, WRITE_TIMEOUT_S

Connected = trio.SocketStream | trio.SSLStream[trio.SocketStream]


class SocketWriter(ABC):
    """The writing half of a connection, which sends in the order of the calls of `_write`."""

    def __init__(self, stream: Connected) -> None:
        self._stream = stream
        self._unsent: deque[bytes] = deque()
        self._unsent_bytes = 0
        self._over = False
        """Nothing is sent any more."""
        self._nursery: trio.Nursery | None = None
        self._context = contextvars.Context()

    @abstractmethod
    def _hang_up(self) -> None:
        """The peer is gone, has taken nothing for WRITE_TIMEOUT_S, or leaves more than WEBSOCKET_UNSENT_MAX bytes
        waiting: be over, and drop what is unsent."""

    @abstractmethod
    def _tell(self) -> None:
        """Some of what was unsent has gone."""

    def _write_by(self, nursery: trio.Nursery) -> None:
        """Send what the kernel does not take by tasks of `nursery`, in the context of this call."""
        self._nursery = nursery
        self._context = contextvars.copy_context()
        if self._unsent:
            nursery.start_soon(self._write_unsent)

    def _drop_unsent(self) -> None:
        self._unsent.clear()
        self._unsent_bytes = 0

    def _write(self, data: bytes) -> None:
        if not self._unsent:
            count = self._write_now(data)
            if count is None or count == len(data):
                return
            data = data[count:]
            if self._nursery is not None:
                # The tasks of a connection are not the event's that sends something.
                self._context.copy().run(self._nursery.start_soon, self._write_unsent)
        self._unsent.append(data)
        self._unsent_bytes += len(data)
        if self._unsent_bytes > WEBSOCKET_UNSENT_MAX:
            self._hang_up()

    def _write_now(self, data: bytes) -> int | None:
        """How many bytes the kernel took; None if nobody is there to take them any more."""
        if self._over:
            return None
        if isinstance(self._stream, trio.SSLStream):
            return 0
        try:
            return os.write(self._stream.socket.fileno(), data)
        except BlockingIOError:
            return 0
        except OSError:
            self._hang_up()
            return None

    async def _write_unsent(self) -> None:
        """Send what waits; the peer has WRITE_TIMEOUT_S for each time that the kernel has no room."""
        while self._unsent and not self._over:
            with trio.move_on_after(WRITE_TIMEOUT_S) as limit:
                if isinstance(self._stream, trio.SSLStream):
                    await self._encrypt(self._stream)
                else:
                    await trio.lowlevel.wait_writable(self._stream.socket)
                    self._write_some()
            if limit.cancelled_caught:
                self._hang_up()
                return
            self._tell()

    def _write_some(self) -> None:
        while self._unsent:
            data = self._unsent[0]
            count = self._write_now(data)
            if count is None:
                return
            self._unsent_bytes -= count
            if count < len(data):
                self._unsent[0] = data[count:]
                return
            self._unsent.popleft()

    async def _encrypt(self, stream: trio.SSLStream[trio.SocketStream]) -> None:
        try:
            await stream.send_all(self._unsent[0])
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._hang_up()
            return
        if self._unsent:  # not hung up meanwhile
            self._unsent_bytes -= len(self._unsent.popleft())
