"""The body of a response that a foreign app (ASGI, WSGI) is still producing while it is being sent."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Self

from edge_runtime.limits import ASGI_BUFFER_MAX
from edge_runtime.promise import Promise
from edge_runtime.workers.streams import ReadableStream, Write


class ClientDisconnected(OSError):
    """The client has gone; nothing more can be sent. An OSError because ASGI wants one from `send`."""

    def __init__(self) -> None:
        super().__init__("the client has disconnected")


class BodyPipe:
    """Pieces from an app to whoever sends them; the app waits while more than `ASGI_BUFFER_MAX` bytes are unsent.

    `on_hang_up` is called once, when the reader gives up before the end.
    """

    __slots__ = ("_ended", "_error", "_gone", "_on_hang_up", "_pieces", "_size", "_taken", "_written")

    def __init__(self, on_hang_up: Callable[[], object]) -> None:
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._error: BaseException | None = None
        self._gone = False
        self._on_hang_up = on_hang_up
        self._written: Promise[None] | None = None
        self._taken: Promise[None] | None = None

    async def write(self, piece: bytes) -> None:
        """For tasks of either flavour. Raises ClientDisconnected once the reader has given up."""
        if not self._gone and piece:
            self._pieces.append(piece)
            self._size += len(piece)
            self._wake_reader()
        while self._size > ASGI_BUFFER_MAX and not self._gone:
            if self._taken is None:
                self._taken = Promise()
            await self._taken
        if self._gone:
            raise ClientDisconnected

    def end(self) -> None:
        self._ended = True
        self._wake_reader()

    def fail(self, error: BaseException) -> None:
        """End the body early: the reader gets `error` after what was written, which cuts the connection."""
        self._error = error
        self.end()

    async def read(self) -> bytes | None:
        """What has been written since the last call, joined; None at the end."""
        while not self._pieces:
            if self._error is not None:
                raise self._error
            if self._ended or self._gone:
                return None
            self._written = Promise()
            await self._written
        piece = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        self._wake_writers()
        return piece

    def hang_up(self) -> None:
        """The reader gives up."""
        if self._gone or (self._ended and not self._pieces):
            return
        self._gone = True
        self._pieces.clear()
        self._size = 0
        self._wake_writers()
        self._on_hang_up()

    async def close(self) -> None:
        self.hang_up()

    def _wake_reader(self) -> None:
        written, self._written = self._written, None
        if written is not None:
            written.resolve(None)

    def _wake_writers(self) -> None:
        taken, self._taken = self._taken, None
        if taken is not None:
            taken.resolve(None)


class AppBody(ReadableStream):
    """A `BodyPipe` as the body of a Response; hangs up when it is not sent to its end."""

    __slots__ = ("_pipe",)
    js_name = "ReadableStream"

    _pipe: BodyPipe

    @classmethod
    def of_pipe(cls, pipe: BodyPipe) -> Self:
        body = cls.of_receive(pipe.read, pipe.close)
        assert isinstance(body, cls)
        body._pipe = pipe
        return body

    async def write_to(self, write: Write) -> None:
        try:
            await super().write_to(write)
        finally:
            self._pipe.hang_up()
