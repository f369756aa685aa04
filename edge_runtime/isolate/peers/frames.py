"""Frames between two isolates. Values travel in them in the form of `store.values`, what goes by reference beside them.
Frames are arrays: names of fields would double the time that it takes to read and write a call.

Calls are numbered by who makes them, streams by who sends them, stubs by who holds what they lead to.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from edge_runtime.actors.api import ActorAddress, ActorKind

Headers = tuple[tuple[bytes, bytes], ...]


class Body(msgspec.Struct, frozen=True, array_like=True):
    """A body: whole, or a stream that begins at once as far as its window allows. Neither: there is none."""

    data: bytes | None = None
    stream: int | None = None


class RequestHead(msgspec.Struct, frozen=True, array_like=True):
    method: str
    url: str
    headers: Headers
    redirect: str
    cf: bytes | None
    body: Body


class ResponseHead(msgspec.Struct, frozen=True, array_like=True):
    status: int
    status_text: str
    url: str
    redirected: bool
    headers: Headers
    body: Body
    socket: int | None = None
    """Of a 101 response: the WebSocket that comes with it."""


class Reference(msgspec.Struct, frozen=True, array_like=True):
    """What is to stand at `path` of a value, where None stands now."""

    path: tuple[int | str, ...]
    kind: Literal["stub", "stream", "request", "response", "blob", "file", "form"]
    number: int = 0
    """Of a stub or a stream."""
    request: RequestHead | None = None
    response: ResponseHead | None = None
    data: bytes = b""
    text: str = ""
    """The content type of `data`."""
    name: str = ""
    """Of a file."""


class Packed(msgspec.Struct, frozen=True, array_like=True):
    """A value on its way."""

    value: bytes
    references: tuple[Reference, ...] = ()


class Hello(msgspec.Struct, tag="hello", frozen=True, array_like=True):
    """The first frame of the isolate that was introduced to: it is alive and reads the link."""


class Addressed(msgspec.Struct, frozen=True, array_like=True):
    """Begins every call to an actor."""

    call: int
    view: int
    """The number of the view by which the caller chose this isolate."""
    worker: str
    actor: ActorKind
    namespace: str
    id: str
    name: str | None

    @property
    def address(self) -> ActorAddress:
        return ActorAddress(self.worker, self.actor, self.namespace, self.id)


class CallMethod(Addressed, tag="call_method", frozen=True, kw_only=True, array_like=True):
    method: str
    args: Packed
    identity: bytes | None = None
    """Of a call that may be repeated and is answered once."""


class CallFetch(Addressed, tag="call_fetch", frozen=True, kw_only=True, array_like=True):
    request: RequestHead


class CallCron(Addressed, tag="call_cron", frozen=True, kw_only=True, array_like=True):
    scheduled_ms: int


class CallStub(msgspec.Struct, tag="call_stub", frozen=True, array_like=True):
    """Call what a stub leads to: the function itself, or a method."""

    call: int
    stub: int
    method: str | None
    args: Packed


class FetchStub(msgspec.Struct, tag="fetch_stub", frozen=True, array_like=True):
    call: int
    stub: int
    request: RequestHead


class StubReleased(msgspec.Struct, tag="stub_released", frozen=True, array_like=True):
    stub: int


class Returned(msgspec.Struct, tag="returned", frozen=True, array_like=True):
    call: int
    result: Packed


class Responded(msgspec.Struct, tag="responded", frozen=True, array_like=True):
    call: int
    response: ResponseHead


class Failed(msgspec.Struct, tag="failed", frozen=True, array_like=True):
    call: int
    error: str
    """The class, by a name that `peers.values` knows."""
    message: str
    name: str = ""
    """Of a JavaScript error."""
    remote: bool = True
    retryable: bool = False
    overloaded: bool = False
    reset: bool = False


class Moved(msgspec.Struct, tag="moved", frozen=True, array_like=True):
    """The call has not begun and will not: by view `view` the actor is not here."""

    call: int
    view: int


class Piece(msgspec.Struct, tag="piece", frozen=True, array_like=True):
    stream: int
    data: bytes


class StreamEnded(msgspec.Struct, tag="stream_ended", frozen=True, array_like=True):
    stream: int
    error: str | None


class StreamCredit(msgspec.Struct, tag="stream_credit", frozen=True, array_like=True):
    """The reader has consumed so many bytes more."""

    stream: int
    size: int


class StreamCancelled(msgspec.Struct, tag="stream_cancelled", frozen=True, array_like=True):
    """Nobody reads it any more."""

    stream: int


class SocketFrame(msgspec.Struct, frozen=True, array_like=True):
    """Something of a WebSocket."""

    socket: int
    mine: bool
    """The number was given by the sender of the frame."""


class SocketMessage(SocketFrame, tag="socket_message", frozen=True, array_like=True):
    """One of the two."""

    data: bytes | None
    text: str | None


class SocketClosed(SocketFrame, tag="socket_closed", frozen=True, array_like=True):
    """A Close frame."""

    code: int
    reason: str


class SocketLost(SocketFrame, tag="socket_lost", frozen=True, array_like=True):
    """Ended without a Close frame."""

    error: str | None


class SocketHandled(SocketFrame, tag="socket_handled", frozen=True, array_like=True):
    """The oldest message that was not handled yet is."""


FRAMES: Final = (
    Hello
    | CallMethod
    | CallFetch
    | CallCron
    | CallStub
    | FetchStub
    | StubReleased
    | Returned
    | Responded
    | Failed
    | Moved
    | Piece
    | StreamEnded
    | StreamCredit
    | StreamCancelled
    | SocketMessage
    | SocketClosed
    | SocketLost
    | SocketHandled
)
