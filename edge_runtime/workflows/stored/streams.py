"""Byte streams as results of steps: kept in pieces beside the journal, and read from there by `run`, at every replay.

Key of Table.STREAMS: `instance_keys.key_prefix`, then step and number of the piece; value the piece, of
STEP_STREAM_PIECE bytes but for the last. The value of the step's entry is a `KeptStream`. The pieces are
durable before the entry. They are removed with the instance, where a restart drops the step, and when another attempt
keeps a stream.

Source of the limits: cloudflare/workers-sdk, packages/workflows-shared.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from typing import NamedTuple

import trio

from edge_runtime.actors.api import ActorAddress, ActorContext
from edge_runtime.limits import (
    INSTANCE_STREAMS_MAX,
    STEP_STREAM_CHUNK_MAX,
    STEP_STREAM_PIECE,
    STEP_STREAM_PREVIEW_CHARS,
)
from edge_runtime.store import keys
from edge_runtime.store.api import Batch, Snapshot, Store, Table
from edge_runtime.workers.js_object import JsException
from edge_runtime.workers.streams import ReadableStream, WrongPiece
from edge_runtime.workflows.core.journal import Entry, StepKey, StepSucceeded
from edge_runtime.workflows.core.kept_stream import MARK, KeptStream
from edge_runtime.workflows.stored import instance_keys


class StreamRefused(Exception):
    """A step returned a stream that cannot be kept: the instance ends, as with any result that cannot be stored."""


async def keep(context: ActorContext, home: ActorAddress, key: StepKey, stream: ReadableStream) -> KeptStream:
    """Read a stream to its end and keep its bytes. Raises StreamRefused, and what the stream raises."""
    if stream.locked or stream.disturbed:
        raise StreamRefused(
            "Step returned a ReadableStream that is already locked or otherwise unreadable. "
            "Return a fresh, unlocked ReadableStream from step.do()."
        )
    keeper = _Keeper(context, home, key)
    try:
        await stream.write_to(keeper.write)
        return await keeper.end()
    except BaseException as error:
        keeper.drop()
        if isinstance(error, WrongPiece):
            raise StreamRefused(f"Step returned a ReadableStream with unsupported chunk type: {error}") from error
        raise


class _Keeper:
    def __init__(self, context: ActorContext, home: ActorAddress, key: StepKey) -> None:
        self._context = context
        self._prefix = _place(home, key)
        self._buffer = bytearray()
        self._kept = 0
        self._size = 0
        self._others = _bytes_of(context, home, self._prefix)
        self._batch = Batch()
        self._batch.delete_range(Table.STREAMS, self._prefix, self._prefix + b"\xff")

    async def write(self, chunk: bytes) -> None:
        if len(chunk) > STEP_STREAM_CHUNK_MAX:
            raise StreamRefused(
                f"Step returned a ReadableStream chunk larger than the maximum allowed size of {STEP_STREAM_CHUNK_MAX} "
                f"bytes: it has {len(chunk)}. Return smaller chunks from step.do()."
            )
        self._size += len(chunk)
        if self._others + self._size > INSTANCE_STREAMS_MAX:
            raise StreamRefused("The instance has exceeded the 1GiB storage limit")
        self._buffer += chunk
        while len(self._buffer) >= STEP_STREAM_PIECE:
            self._cut(STEP_STREAM_PIECE)
            # One at a time: a stream takes no more memory than that, however long it is.
            await self._write()

    async def end(self) -> KeptStream:
        if self._buffer:
            self._cut(len(self._buffer))
        await self._write()
        return KeptStream(self._size, self._kept)

    def drop(self) -> None:
        batch = Batch()
        batch.delete_range(Table.STREAMS, self._prefix, self._prefix + b"\xff")
        self._context.commit(batch)

    def _cut(self, size: int) -> None:
        self._batch.put(Table.STREAMS, self._prefix + keys.encode(self._kept), bytes(self._buffer[:size]))
        del self._buffer[:size]
        self._kept += 1

    async def _write(self) -> None:
        batch, self._batch = self._batch, Batch()
        await self._context.commit(batch)


def _bytes_of(context: ActorContext, home: ActorAddress, without: bytes) -> int:
    """What the other streams of an instance have, counted in whole pieces."""
    with context.store.snapshot() as snapshot:
        found = snapshot.keys(Table.STREAMS, *keys.prefix_range(keys.short(home.id), home.worker, home.namespace))
        return STEP_STREAM_PIECE * sum(1 for key in found if not key.startswith(without))


def open_kept(store: Store, home: ActorAddress, key: StepKey, kept: KeptStream) -> ReadableStream:
    """A stream from its beginning. Reading it fails once the instance has been deleted or the step dropped."""
    prefix = _place(home, key)
    numbers = iter(range(kept.pieces))

    async def receive() -> bytes | None:
        number = next(numbers, None)
        if number is None:
            return None
        await trio.lowlevel.checkpoint()
        piece = store.get(Table.STREAMS, prefix + keys.encode(number))
        if piece is None:
            raise JsException(f'The stream that step "{key}" returned is not stored any more')
        return piece

    return ReadableStream.of_receive(receive)


class KeptStreams(NamedTuple):
    """The streams of one instance, as a snapshot has them."""

    snapshot: Snapshot
    home: ActorAddress

    def pieces(self, key: StepKey, kept: KeptStream) -> list[bytes]:
        """All bytes of a stream, as they are stored."""
        return [self._piece(key, number) for number in range(kept.pieces)]

    def preview(self, key: StepKey, kept: KeptStream) -> str:
        """What is shown of a stream: the beginning of a text, and of other bytes how many there are."""
        # In UTF-8 a character has at most four bytes.
        shown = self._piece(key, 0)[: 4 * STEP_STREAM_PREVIEW_CHARS] if kept.pieces else b""
        try:
            text = codecs.getincrementaldecoder("utf-8")().decode(shown, final=len(shown) == kept.size)
        except UnicodeDecodeError:
            return str(kept)
        cut = len(text) > STEP_STREAM_PREVIEW_CHARS or len(shown) < kept.size
        return text[:STEP_STREAM_PREVIEW_CHARS] + ("[truncated output]" if cut else "")

    def _piece(self, key: StepKey, number: int) -> bytes:
        return self.snapshot.get(Table.STREAMS, _place(self.home, key) + keys.encode(number)) or b""


def put_pieces(batch: Batch, home: ActorAddress, key: StepKey, pieces: Iterable[bytes]) -> None:
    """Store a stream that was read from another data directory."""
    for number, piece in enumerate(pieces):
        batch.put(Table.STREAMS, _place(home, key) + keys.encode(number), piece)


def _place(home: ActorAddress, key: StepKey) -> bytes:
    """How the keys of the pieces of a step's stream begin."""
    return instance_keys.key_prefix(home) + keys.encode(str(key))


def forget_dropped(batch: Batch, home: ActorAddress, before: Iterable[Entry], after: Iterable[Entry]) -> None:
    """Remove the streams of the steps whose results a restart has dropped."""
    stay = {entry.key for entry in after if isinstance(entry, StepSucceeded)}
    for entry in before:
        if isinstance(entry, StepSucceeded) and entry.value[:1] == MARK and entry.key not in stay:
            prefix = _place(home, entry.key)
            batch.delete_range(Table.STREAMS, prefix, prefix + b"\xff")
