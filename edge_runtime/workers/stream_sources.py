"""Where the pieces of script-side streams come from: a queue, JavaScript's underlying source, a fork of a stream."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Mapping
from typing import Any, Protocol

from edge_runtime.promise import Promise
from edge_runtime.workers.js_object import JsException


class PieceQueue:
    """Pieces from producers to one consumer, both script-side. Producers may wait until the consumer has caught up."""

    __slots__ = ("_closed", "_drained", "_error", "_pieces", "_wanted")

    def __init__(self) -> None:
        self._pieces: deque[Any] = deque()
        self._closed = False
        self._error: BaseException | None = None
        self._wanted: Promise[None] | None = None
        self._drained: Promise[None] | None = None

    @property
    def open(self) -> bool:
        return not self._closed and self._error is None

    def __len__(self) -> int:
        return len(self._pieces)

    def put(self, piece: Any) -> None:
        if self._error is not None:
            raise self._error
        if self._closed:
            raise TypeError("This stream has been closed.")
        self._pieces.append(piece)
        self._wake()

    def close(self) -> None:
        self._closed = True
        self._wake()

    def fail(self, error: BaseException) -> None:
        if self._error is None:
            self._error = error
            self._pieces.clear()
        self._wake()
        self._release()

    async def get(self) -> Any:
        while not self._pieces:
            self._release()
            if self._error is not None:
                raise self._error
            if self._closed:
                return None
            if self._wanted is None:
                self._wanted = Promise()
            await self._wanted
        return self._pieces.popleft()

    async def drained(self) -> None:
        """Return when the consumer has taken every piece; raise what the stream failed with."""
        while self._pieces and self._error is None:
            if self._drained is None:
                self._drained = Promise()
            await self._drained
        if self._error is not None:
            raise self._error

    def _wake(self) -> None:
        wanted, self._wanted = self._wanted, None
        if wanted is not None:
            wanted.resolve(None)

    def _release(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None:
            drained.resolve(None)


class ControlledSource:
    """JavaScript's underlying source: callbacks `start`, `pull`, `cancel` that feed a controller. Is the controller."""

    __slots__ = ("_callbacks", "_queue", "_starting")

    desiredSize = 1

    def __init__(self, callbacks: Mapping[str, Any]) -> None:
        self._callbacks = callbacks
        self._queue = PieceQueue()
        start = callbacks.get("start")
        self._starting: Any = None if start is None else start(self)

    def enqueue(self, piece: Any) -> None:
        self._queue.put(piece)

    def close(self) -> None:
        self._queue.close()

    def error(self, error: object = None) -> None:
        self._queue.fail(error if isinstance(error, BaseException) else JsException(str(error)))

    def terminate(self) -> None:
        self._queue.close()

    async def pull(self) -> Any:
        if self._starting is not None:
            starting, self._starting = self._starting, None
            if isinstance(starting, Awaitable):
                await starting
        pull = self._callbacks.get("pull")
        while pull is not None and not self._queue and self._queue.open:
            done = pull(self)
            if isinstance(done, Awaitable):
                await done
            elif not self._queue and self._queue.open:
                break
        return await self._queue.get()

    async def cancel(self, reason: object) -> None:
        self._queue.close()
        cancel = self._callbacks.get("cancel")
        if cancel is not None:
            done = cancel(reason)
            if isinstance(done, Awaitable):
                await done


class Source(Protocol):
    """What a fork reads: a stream."""

    async def next_piece(self) -> Any: ...

    async def discard(self, reason: object = None) -> None: ...


class Fork:
    """The shared end of a tee: reads the source for whichever branch is ahead."""

    __slots__ = ("_cancelled", "_ended", "_error", "_kept", "_reading", "_source")

    def __init__(self, source: Source) -> None:
        self._source = source
        self._kept: tuple[deque[Any], deque[Any]] = (deque(), deque())
        self._cancelled = [False, False]
        self._reading: Promise[None] | None = None
        self._ended = False
        self._error: Exception | None = None

    async def next(self, number: int) -> Any:
        kept = self._kept[number]
        while not kept:
            if self._error is not None:
                raise self._error
            if self._ended:
                return None
            if self._reading is None:
                await self._read()
            else:
                await self._reading
        return kept.popleft()

    async def _read(self) -> None:
        reading: Promise[None] = Promise()
        self._reading = reading
        try:
            piece = await self._source.next_piece()
        except Exception as error:
            self._error = error
            raise
        else:
            self._ended = piece is None
            for kept, cancelled in zip(self._kept, self._cancelled, strict=True):
                if piece is not None and not cancelled:
                    kept.append(piece)
        finally:
            self._reading = None
            reading.resolve(None)

    async def cancel(self, number: int, reason: object) -> None:
        self._cancelled[number] = True
        self._kept[number].clear()
        if all(self._cancelled):
            await self._source.discard(reason)
