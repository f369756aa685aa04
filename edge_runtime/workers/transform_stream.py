"""WritableStream and TransformStream: the sides of a stream that a script writes to."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any

from edge_runtime.workers.js_object import JsException, JsObject
from edge_runtime.workers.stream_sources import PieceQueue
from edge_runtime.workers.streams import ReadableStream, piece_bytes


class WritableStream(JsObject):
    """A sink of pieces: JavaScript's underlying sink with callbacks `start`, `write`, `close`, `abort`."""

    __slots__ = ("_sink", "_state", "locked")

    def __init__(self, sink: Mapping[str, Any] | None = None, strategy: object = None) -> None:
        self.locked = False
        self._sink: Mapping[str, Any] = sink or {}
        self._state = "open"
        start = self._sink.get("start")
        if start is not None:
            start(self)

    def getWriter(self) -> WritableStreamWriter:
        if self.locked:
            raise TypeError("This WritableStream is currently locked to a writer.")
        self.locked = True
        return WritableStreamWriter(self)

    get_writer = getWriter

    async def close(self) -> None:
        await self.perform("close")

    async def abort(self, reason: object = None) -> None:
        await self.perform("abort", reason)

    async def perform(self, action: str, *args: object) -> None:
        """Call the sink. TypeError once it was closed or aborted."""
        if self._state != "open":
            if action == "abort":
                return
            raise TypeError(f"This WritableStream has been {self._state}.")
        if action != "write":
            self._state = "closed" if action == "close" else "aborted"
        callback = self._sink.get(action)
        if callback is not None:
            done = callback(*args)
            if isinstance(done, Awaitable):
                await done


class WritableStreamWriter(JsObject):
    """The one writer of a locked stream."""

    __slots__ = ("_stream",)
    js_name = "WritableStreamDefaultWriter"

    def __init__(self, stream: WritableStream) -> None:
        self._stream: WritableStream | None = stream

    async def write(self, piece: Any) -> None:
        """Return when the sink has taken the piece: for a TransformStream, when its reader has."""
        await self._attached().perform("write", piece)

    async def close(self) -> None:
        await self._attached().perform("close")

    async def abort(self, reason: object = None) -> None:
        await self._attached().perform("abort", reason)

    def releaseLock(self) -> None:
        if self._stream is not None:
            self._stream.locked = False
            self._stream = None

    release_lock = releaseLock

    def _attached(self) -> WritableStream:
        if self._stream is None:
            raise TypeError("This WritableStream writer has been released.")
        return self._stream


class TransformStream(JsObject):
    """A writable side and a readable side; `transform(piece, controller)` between them, or nothing (identity).

    Writing waits until the piece has been read, so a producer is as fast as its consumer.
    """

    __slots__ = ("_queue", "_transformer", "readable", "writable")

    def __init__(self, transformer: Mapping[str, Any] | None = None, *strategies: object) -> None:
        self._transformer: Mapping[str, Any] = transformer or {}
        self._queue = PieceQueue()
        self.readable = ReadableStream.of_pull(self._queue.get, self._cancelled)
        self.writable = WritableStream({"write": self._write, "close": self._close, "abort": self._abort})
        start = self._transformer.get("start")
        if start is not None:
            start(self)

    # The controller that callbacks get is this object.

    def enqueue(self, piece: Any) -> None:
        self._queue.put(piece)

    def terminate(self) -> None:
        self._queue.close()

    def error(self, error: object = None) -> None:
        self._abort(error)

    async def _write(self, piece: Any) -> None:
        transform = self._transformer.get("transform")
        if transform is None:
            self._queue.put(piece)
        else:
            done = transform(piece, self)
            if isinstance(done, Awaitable):
                await done
        await self._queue.drained()

    async def _close(self) -> None:
        flush = self._transformer.get("flush")
        if flush is not None:
            done = flush(self)
            if isinstance(done, Awaitable):
                await done
        self._queue.close()

    def _abort(self, reason: object = None) -> None:
        self._queue.fail(reason if isinstance(reason, BaseException) else JsException(str(reason), "AbortError"))

    def _cancelled(self, reason: object) -> None:
        self._queue.fail(TypeError("The readable side of this stream was cancelled."))


class IdentityTransformStream(TransformStream):
    """A TransformStream that changes nothing."""

    __slots__ = ()


class FixedLengthStream(TransformStream):
    """A TransformStream that changes nothing and passes exactly `length` bytes; TypeError for more or fewer."""

    __slots__ = ("_left",)

    def __init__(self, length: int) -> None:
        super().__init__()
        self._left = length

    async def _write(self, piece: Any) -> None:
        size = len(piece_bytes(piece))
        if size > self._left:
            raise TypeError("Attempt to write too many bytes through a FixedLengthStream.")
        self._left -= size
        await super()._write(piece)

    async def _close(self) -> None:
        if self._left:
            error = TypeError("FixedLengthStream did not see all expected bytes before close().")
            self._abort(error)
            raise error
        await super()._close()
