"""Bytes on their way to a client of an HTTP/1.1 connection, who may be slow to read, or gone."""

from __future__ import annotations

import trio

from edge_runtime.isolate.http1.client_socket import Client
from edge_runtime.limits import WRITE_TIMEOUT_S


class ClientWriter:
    """The sending side of a connection. It ends by `scope`, as does all else of the connection."""

    __slots__ = ("_broken", "_lock", "_unsent", "client", "scope")

    def __init__(self, client: Client) -> None:
        self.client = client
        self.scope = trio.CancelScope()
        self._unsent: list[memoryview] = []
        self._lock: trio.Lock | None = None
        self._broken = False
        """The client is gone, or does not read."""

    def send_now(self, data: bytes, body: bytes = b"") -> bool:
        """Send bytes; whether all are out. What the kernel does not take waits for `flush`, so that a writer who is
        cancelled leaves no half of a message behind."""
        unsent = self._unsent
        sent = 0
        if not unsent and not self._broken:
            try:
                sent = self.client.sendmsg((data, body)) if body else self.client.send(data)
                if sent == len(data) + len(body):
                    return True
            except BlockingIOError:
                pass
            except OSError:
                self._broken = True
        if sent < len(data):
            unsent.append(memoryview(data)[sent:])
            sent = len(data)
        if sent < len(data) + len(body):
            unsent.append(memoryview(body)[sent - len(data) :])
        return not unsent

    async def write(self, data: bytes, body: bytes = b"") -> None:
        if not self.send_now(data, body):
            await self.flush()

    async def flush(self) -> None:
        """Wait until all is out. Cancels the connection's scope if the client is gone, or does not read."""
        if self._lock is None:
            self._lock = trio.Lock()
        async with self._lock:
            while self._unsent:
                if self._broken:
                    await self._lose()
                    return
                with trio.move_on_after(WRITE_TIMEOUT_S) as limit:
                    await self.client.writable()
                if limit.cancelled_caught:
                    self.client.break_off()
                    await self._lose()
                    return
                try:
                    sent = self.client.send(self._unsent[0])
                except BlockingIOError:
                    continue
                except OSError:
                    await self._lose()
                    return
                if sent == len(self._unsent[0]):
                    del self._unsent[0]
                else:
                    self._unsent[0] = self._unsent[0][sent:]

    async def _lose(self) -> None:
        self._broken = True
        self._unsent.clear()
        self.scope.cancel()
        await trio.lowlevel.checkpoint()
