"""A response body that a script still produces after its handler has returned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

import trio

from edge_runtime.errors import ActorBroken
from edge_runtime.promise import Promise
from edge_runtime.workers.response import FetchResponse
from edge_runtime.workers.streams import ReadableStream, Write

CUT_OFF: Final = "The Durable Object that was sending this body was reset."


class BodyGate(Protocol):
    """What a body has to pass: as of `actors.api.ActorContext`."""

    @property
    def closed(self) -> Promise[None]: ...

    @property
    def durable(self) -> bool: ...

    def when_durable(self) -> Promise[None]: ...

    async def wait_durable(self) -> None: ...


class HeldStream(ReadableStream):
    """Passes a stream on, through the output gate, and says once when it is over: read to its end, failed,
    cancelled, cut off or dropped. Until then the event stays open, and its object in memory."""

    __slots__ = ("_gate", "_inner", "_over", "_scopes", "_token")

    _gate: BodyGate
    _inner: ReadableStream
    _over: Callable[[], None] | None
    _scopes: list[trio.CancelScope]
    _token: trio.lowlevel.TrioToken

    @classmethod
    def of(
        cls, inner: ReadableStream, gate: BodyGate, scopes: list[trio.CancelScope], over: Callable[[], None]
    ) -> HeldStream:
        stream = cls.of_pull(inner.next_piece, inner.discard)
        assert isinstance(stream, HeldStream)
        stream._inner = inner
        stream._gate = gate
        stream._scopes = scopes
        stream._over = over
        stream._token = trio.lowlevel.current_trio_token()
        return stream

    async def next_piece(self) -> Any:
        self.disturbed = True
        if self._gate.closed.settled:
            raise ActorBroken(CUT_OFF)
        try:
            piece = await self._inner.next_piece()
            if not self._gate.durable:
                await self._gate.when_durable()
        except BaseException:
            self._finish()
            raise
        if piece is None:
            self._finish()
        return piece

    async def read_all(self) -> bytes:
        self.disturbed = True
        try:
            data: bytes = await self._inner.read_all()
            await self._gate.when_durable()
        finally:
            self._finish()
        return data

    async def write_to(self, write: Write) -> None:
        self.disturbed = True

        async def write_when_durable(piece: bytes) -> None:
            if not self._gate.durable:
                await self._gate.wait_durable()
            await write(piece)

        if self._gate.closed.settled:
            raise ActorBroken(CUT_OFF)
        with trio.CancelScope() as scope:
            self._scopes.append(scope)
            try:
                await self._inner.write_to(write_when_durable)
            finally:
                self._scopes.remove(scope)
                self._finish()
        if scope.cancelled_caught:
            raise ActorBroken(CUT_OFF)

    async def discard(self, reason: object = None) -> None:
        self.disturbed = True
        try:
            await self._inner.discard(reason)
        finally:
            self._finish()

    def _finish(self) -> None:
        over, self._over = self._over, None
        if over is not None:
            over()

    def __del__(self) -> None:
        over = getattr(self, "_over", None)
        if over is None:
            return
        # The collector may run in any thread.
        try:
            self._token.run_sync_soon(over)
        except trio.RunFinishedError:
            return


def hold_body(
    response: FetchResponse, gate: BodyGate, scopes: list[trio.CancelScope], over: Callable[[], None]
) -> bool:
    """Put a HeldStream in place of a response's streamed body; False if the body is there already or absent.

    Whoever ends the activation cancels the `scopes`: then the stream is cut off, as nobody feeds it any more.
    """
    payload = response._payload
    stream = payload.stream
    if stream is None or payload.body_used or stream.locked:
        return False
    payload.stream = HeldStream.of(stream, gate, scopes, over)
    return True
