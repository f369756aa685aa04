"""The open connections of an isolate, whoever serves them."""

from __future__ import annotations

from collections.abc import Callable

import trio

from edge_runtime.connection_marks import ConnectionMarks


class OpenConnections:
    """For draining, and for the question whether the isolate is idle."""

    def __init__(self, marks: ConnectionMarks | None = None) -> None:
        self.draining = False
        self.marks = ConnectionMarks() if marks is None else marks
        self._open: dict[object, Callable[[], None]] = {}
        self._empty = trio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._open)

    def add(self, connection: object, on_drain: Callable[[], None]) -> None:
        """`on_drain` closes the connection if it is between requests."""
        if not self._open:
            self._empty = trio.Event()
        self._open[connection] = on_drain

    def replace(self, connection: object, successor: object, on_drain: Callable[[], None]) -> None:
        """The connection is served in another way from now on."""
        del self._open[connection]
        self._open[successor] = on_drain
        if self.draining:
            on_drain()

    def remove(self, connection: object) -> None:
        del self._open[connection]
        if not self._open:
            self._empty.set()

    def drain(self) -> None:
        """Let every connection close after the request it is busy with."""
        self.draining = True
        for on_drain in list(self._open.values()):
            on_drain()

    async def wait_empty(self) -> None:
        while self._open:
            await self._empty.wait()
