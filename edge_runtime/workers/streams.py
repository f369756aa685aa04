"""ReadableStream: pieces of a body, pulled one at a time from where they come from.

A stream has one of two kinds of source. A runtime source is a trio function of ours: a client's upload, a response
from the network. A script source is code of the script or built on such code (an async generator, a branch of `tee`):
it runs in the script's flavour and on its meter, whoever reads.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from io import BytesIO
from typing import Any, Protocol, TypeAlias, cast

import trio

from edge_runtime.event import EventContext, current_event, require_event
from edge_runtime.workers.buffers import JsBytes, as_bytes
from edge_runtime.workers.js_object import JsException, JsObject, on_trio
from edge_runtime.workers.js_values import JsDict
from edge_runtime.workers.stream_sources import ControlledSource, Fork

Receive: TypeAlias = Callable[[], Awaitable[bytes | None]]
"""Gives the next piece of a body, None at its end, and None again if called after that."""

Pull: TypeAlias = Callable[[], Awaitable[Any]]
Write: TypeAlias = Callable[[bytes], Awaitable[object]]

LOCKED = "This ReadableStream is currently locked to a reader."
DISTURBED = "This ReadableStream is disturbed (has already been read from), and cannot be used as a body."


class PieceWriter(Protocol):
    """Takes the pieces of a stream: `transform_stream.WritableStreamWriter`."""

    def write(self, piece: Any) -> Awaitable[object]: ...

    def close(self) -> Awaitable[object]: ...

    def abort(self, reason: object) -> Awaitable[object]: ...


class Destination(Protocol):
    """What a stream can be piped to: `transform_stream.WritableStream`."""

    def getWriter(self) -> PieceWriter: ...


class ReadableStream(JsObject):
    """A stream of pieces, read once. Pieces of bodies are bytes; `async for` takes the rest of them."""

    __slots__ = ("_close", "_ended", "_error", "_event", "_of_script", "_pull", "disturbed", "locked")

    def __init__(self, source: object = None, strategy: object = None) -> None:
        """As JavaScript's `new ReadableStream({start, pull, cancel})`; an async iterable is taken as the source too."""
        self.locked = False
        self.disturbed = False
        self._ended = False
        self._error: BaseException | None = None
        self._event: EventContext | None = current_event.get()
        self._of_script = True
        self._close: Callable[[object], Awaitable[object] | object] | None = None
        if isinstance(source, AsyncIterable):
            iterator = aiter(source)
            self._pull: Pull = lambda: _next_or_none(iterator)
            self._close = lambda _reason: _close_iterator(iterator)
        else:
            controlled = ControlledSource(source if isinstance(source, Mapping) else {})
            self._pull = controlled.pull
            self._close = controlled.cancel

    @classmethod
    def of_receive(cls, receive: Receive, close: Callable[[], Awaitable[object]] | None = None) -> ReadableStream:
        """A stream of the runtime; `close` is called when the script cancels it."""
        stream = cls.of_pull(receive)
        stream._of_script = False
        stream._close = None if close is None else lambda _reason: close()
        return stream

    @classmethod
    def of_pull(cls, pull: Pull, close: Callable[[object], Awaitable[object] | object] | None = None) -> ReadableStream:
        """A script-side stream on `pull`, which gives None at the end."""
        stream = cls.__new__(cls)
        stream.locked = stream.disturbed = stream._ended = False
        stream._error = None
        stream._event = current_event.get()
        stream._of_script = True
        stream._pull = pull
        stream._close = close
        return stream

    @classmethod
    def of_bytes(cls, data: bytes) -> ReadableStream:
        pieces = [data] if data else []

        async def pull() -> bytes | None:
            return pieces.pop() if pieces else None

        return cls.of_receive(pull)

    @classmethod
    def from_(cls, source: AsyncIterable[Any]) -> ReadableStream:
        return cls(source)

    # For scripts.

    def getReader(self, options: Mapping[str, object] | None = None, **_options: object) -> ReadableStreamReader:
        if self.locked:
            raise TypeError(LOCKED)
        self.locked = True
        return ReadableStreamReader(self)

    get_reader = getReader

    async def cancel(self, reason: object = None) -> None:
        if self.locked:
            raise TypeError(LOCKED)
        await self.discard(reason)

    def tee(self) -> tuple[ReadableStream, ReadableStream]:
        """Two streams of the same pieces; what one has not read yet is kept in memory."""
        if self.locked:
            raise TypeError(LOCKED)
        self.locked = True
        fork = Fork(self)
        first, second = (
            ReadableStream.of_pull(partial(fork.next, number), partial(fork.cancel, number)) for number in (0, 1)
        )
        return first, second

    async def pipeTo(self, destination: Destination, **_options: object) -> None:
        """Write every piece to `destination` and close it; an error of ours aborts it."""
        writer = destination.getWriter()
        try:
            async for piece in self:
                await writer.write(piece)
        except Exception as error:
            await writer.abort(error)
            raise
        await writer.close()

    def pipeThrough(self, transform: Any, **_options: object) -> ReadableStream:
        """Feed the writable side of `transform` in the background and return its readable side."""
        event = require_event("ReadableStream.pipeThrough()")
        event.spawn(event.run, self.pipeTo, transform.writable)
        return cast(ReadableStream, transform.readable)

    def __aiter__(self) -> AsyncIterator[Any]:
        return _Pieces(self.getReader())

    # For the runtime. None looks at the lock.

    def _to_wire(self) -> ReadableStream:
        return self

    async def next_piece(self) -> Any:
        """The next piece for code of the script, None at the end. Binary pieces answer as Uint8Array too."""
        self.disturbed = True
        if self._error is not None:
            raise self._error
        if self._ended:
            return None
        try:
            piece = await (self._pull() if self._of_script else on_trio(self._pull))
        except Exception as error:
            self._error = error
            raise
        if piece is None:
            self._ended = True
            return None
        return JsBytes(piece) if type(piece) is bytes else piece

    async def read_all(self) -> bytes:
        """Every piece, joined; for code of the script."""
        self.disturbed = True
        joined = BytesIO()

        async def keep(piece: bytes) -> None:
            joined.write(piece)

        if self._of_script:
            await self._copy_of_script(keep, crossing=False)
        else:
            await on_trio(self._copy_of_runtime, keep)
        return joined.getvalue()

    async def write_to(self, write: Write) -> None:
        """Pass every piece to the trio function `write`, in order; for the runtime's own tasks.

        Code of the script runs within its event. What it raises is raised; `write` raising closes the source.
        """
        self.disturbed = True
        if not self._of_script:
            await self._copy_of_runtime(write)
        elif self._event is None:
            await self._copy_of_script(write, crossing=False)
        else:
            await self._event.run(self._copy_of_script, write, True)

    async def discard(self, reason: object = None) -> None:
        """End the stream and let its source clean up."""
        self.disturbed = True
        if self._ended or self._error is not None:
            return
        self._ended = True
        if self._close is not None:
            done = self._close(reason)
            if isinstance(done, Awaitable):
                await done

    async def _copy_of_runtime(self, write: Write) -> None:
        if self._error is not None:
            raise self._error
        try:
            while not self._ended:
                piece = await self._pull()
                if piece is None:
                    self._ended = True
                else:
                    await write(piece)
        except BaseException as error:
            with trio.CancelScope(shield=True):
                await self._fail(error)
            raise

    async def _copy_of_script(self, write: Write, crossing: bool) -> None:
        if self._error is not None:
            raise self._error
        try:
            while not self._ended:
                piece = await self._pull()
                if piece is None:
                    self._ended = True
                elif crossing:
                    await on_trio(write, piece_bytes(piece))
                else:
                    await write(piece_bytes(piece))
        except BaseException as error:
            await self._fail(error)
            raise

    async def _fail(self, error: BaseException) -> None:
        """Let the source clean up, and later readers know."""
        try:
            await self.discard(error)
        finally:
            cut_off = JsException("The stream was cut off.", "AbortError")
            self._error = error if isinstance(error, Exception) else cut_off


class ReadableStreamReader(JsObject):
    """The one reader of a locked stream."""

    __slots__ = ("_stream",)
    js_name = "ReadableStreamDefaultReader"

    def __init__(self, stream: ReadableStream) -> None:
        self._stream: ReadableStream | None = stream

    async def read(self) -> JsDict:
        """`{"done": False, "value": piece}`, then `{"done": True, "value": None}`."""
        piece = await self._attached().next_piece()
        return JsDict(done=piece is None, value=piece)

    async def cancel(self, reason: object = None) -> None:
        await self._attached().discard(reason)

    def releaseLock(self) -> None:
        if self._stream is not None:
            self._stream.locked = False
            self._stream = None

    release_lock = releaseLock

    def _attached(self) -> ReadableStream:
        if self._stream is None:
            raise TypeError("This ReadableStream reader has been released.")
        return self._stream


class _Pieces(AsyncIterator[Any]):
    """What is left of a stream; locks it until its end. (A class, since a generator left half-way needs closing.)"""

    __slots__ = ("_reader", "_stream")

    def __init__(self, reader: ReadableStreamReader) -> None:
        self._reader = reader
        self._stream = reader._attached()

    async def __anext__(self) -> Any:
        try:
            piece = await self._stream.next_piece()
        except BaseException:
            self._reader.releaseLock()
            raise
        if piece is None:
            self._reader.releaseLock()
            raise StopAsyncIteration
        return piece


class WrongPiece(TypeError):
    """A stream that is used as a body gives something else than bytes and text."""


def piece_bytes(piece: object) -> bytes:
    """The bytes of one piece of a body; text is encoded as UTF-8. Raises WrongPiece."""
    if type(piece) is bytes:
        return piece
    if isinstance(piece, str):
        return piece.encode()
    data = as_bytes(piece)
    if data is None:
        raise WrongPiece(f"a stream used as a body must give bytes or text, not {type(piece).__name__}")
    return bytes(data)


async def _next_or_none(iterator: AsyncIterator[Any]) -> Any:
    return await anext(iterator, None)


async def _close_iterator(iterator: AsyncIterator[Any]) -> None:
    aclose = getattr(iterator, "aclose", None)
    if aclose is not None:
        await aclose()
