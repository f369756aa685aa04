"""What lies behind a script's WebSocket: the way to the other side, and whoever takes what comes from there.

A link is one end of a conversation: a client's connection (`isolate.websockets.connection`), or one of the two ends of
a `pipe` within the process, which is what a WebSocketPair is made of. Nothing here waits: messages are queued where
they cannot go on at once, and `handled` tells the far end how far they got, so that it can stop reading.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeAlias


def message_bytes(data: str | bytes) -> int:
    """The size of a message as it is transferred."""
    return len(data) if isinstance(data, bytes) or data.isascii() else len(data.encode("utf-8", "surrogatepass"))


Handled: TypeAlias = Callable[[], object]
"""Called once the script's code has dealt with a message, or nobody ever will."""


class SocketReceiver(Protocol):
    """Takes what arrives on a link, in order. Nothing comes after `close` or `lost`."""

    def message(self, data: str | bytes, handled: Handled | None) -> None: ...

    def close(self, code: int, reason: str) -> None:
        """A Close frame has come; 1005 stands for one without a code. This side may still send."""

    def lost(self, error: str | None) -> None:
        """The other side is gone without a Close frame; `error` says what it did wrong, if it did."""


class SocketLink(Protocol):
    """The way to the other side. Every method may be called at any time; after the end they do nothing."""

    def listen(self, receiver: SocketReceiver) -> None:
        """Give `receiver` what arrives, beginning with what has arrived already. Called once."""

    def send(self, data: str | bytes, handled: Handled | None = None) -> None: ...

    def close(self, code: int, reason: str) -> None:
        """Send a Close frame, 1005 standing for one without a code; nothing is sent after it."""

    def abort(self, error: str | None = None) -> None:
        """Give the conversation up without a Close frame."""


class PipeEnd:
    """One end of a conversation within the process; what goes in here comes out at `other`."""

    __slots__ = ("_arrived", "_over", "_receiver", "other")

    other: PipeEnd

    def __init__(self) -> None:
        self._receiver: SocketReceiver | None = None
        self._arrived: list[Callable[[SocketReceiver], None]] | None = None
        self._over = False

    def listen(self, receiver: SocketReceiver) -> None:
        self._receiver = receiver
        arrived, self._arrived = self._arrived, None
        for give in arrived or ():
            give(receiver)

    def _give(self, give: Callable[[SocketReceiver], None]) -> None:
        if self._receiver is not None:
            give(self._receiver)
        elif self._arrived is None:
            self._arrived = [give]
        else:
            self._arrived.append(give)

    def send(self, data: str | bytes, handled: Handled | None = None) -> None:
        if not self._over:
            self.other._give(lambda receiver: receiver.message(data, handled))
        elif handled is not None:
            handled()

    def close(self, code: int, reason: str) -> None:
        if not self._over:
            self._over = True
            self.other._give(lambda receiver: receiver.close(code, reason))

    def abort(self, error: str | None = None) -> None:
        if not self._over:
            self._over = True
            self.other._give(lambda receiver: receiver.lost(error))


def pipe() -> tuple[PipeEnd, PipeEnd]:
    first, second = PipeEnd(), PipeEnd()
    first.other, second.other = second, first
    return first, second


class _Forward:
    """Passes on what arrives on one link to another."""

    __slots__ = ("_to",)

    def __init__(self, to: SocketLink) -> None:
        self._to = to

    def message(self, data: str | bytes, handled: Handled | None) -> None:
        self._to.send(data, handled)

    def close(self, code: int, reason: str) -> None:
        self._to.close(code, reason)

    def lost(self, error: str | None) -> None:
        self._to.abort(error)


def couple(one: SocketLink, other: SocketLink) -> None:
    """Let whatever comes on either link leave on the other one."""
    other.listen(_Forward(one))
    one.listen(_Forward(other))


class Outbox:
    """What a script sends, held until it may leave, in the order of the calls.

    A Durable Object's messages wait for the writes that precede them; a gate that breaks drops what waited at it.
    """

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[_Held] = []

    def put(self, actor: object, leave: Callable[[], object]) -> None:
        """Call `leave` once `actor` (an `actors.api.ActorContext`, or None) lets it out."""
        context: _Gated | None = actor  # type: ignore[assignment]
        if not self._waiting and (context is None or context.durable):
            leave()
            return
        held = _Held(leave)
        self._waiting.append(held)
        if context is None:
            held.ready = True
        else:
            context.when_durable().add_done_callback(partial(self._opened, held))

    def _opened(self, held: _Held, gate: _Settled) -> None:
        held.ready = True
        if gate.error is not None:
            held.leave = _nothing
        while self._waiting and self._waiting[0].ready:
            self._waiting.pop(0).leave()


class _Held:
    __slots__ = ("leave", "ready")

    def __init__(self, leave: Callable[[], object]) -> None:
        self.leave = leave
        self.ready = False


class _Settled(Protocol):
    @property
    def error(self) -> BaseException | None: ...


class _Gate(Protocol):
    def add_done_callback(self, callback: Callable[[_Settled], object]) -> None: ...


class _Gated(Protocol):
    @property
    def durable(self) -> bool: ...

    def when_durable(self) -> _Gate: ...


def _nothing() -> None:
    pass
