"""The HTTP connection seam: whatever speaks HTTP on a socket hands each request over as an `Exchange`.

`isolate.http1` is the implementation for HTTP/1; `isolate.hypercorn` serves everything else, and HTTP/1 too where
`[edge] http1 = "hypercorn"` says so. No handler knows either.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from edge_runtime.workers.websocket_link import SocketLink

RawHeaders = Sequence[tuple[bytes, bytes]]


class BodyTooLarge(Exception):
    """More of a request's body arrived than REQUEST_BODY_MAX; answer 413 and close."""


class BodyTimeout(Exception):
    """A request's body arrives too slowly, or not at all; answer 408 and close."""


class WrongBodyLength(Exception):
    """A body that is sent in pieces has another length than its content-length declares."""


class Checked:
    """What `fetch` finds out about the head of a request, once for all requests with that same head."""

    __slots__ = ("has_body", "title", "url")

    def __init__(self) -> None:
        self.url = ""
        """As the script sees it; "" before the head was checked."""
        self.has_body = False
        self.title = ""
        """Method and target, for the log."""


class Exchange(Protocol):
    """One request and the means to answer it. Used by one task, which is cancelled when the client goes away before
    the answer is complete."""

    method: str
    scheme: str
    target: bytes
    """As on the request line: path and query, percent-encoded."""
    headers: RawHeaders
    """Names in lower case, in order of arrival."""
    checked: Checked
    http_version: str
    relayed: bool
    """It came through another isolate's connection (see `outgoing.relay`)."""
    started: bool
    """Whether the head of the answer has gone out."""
    upgradable: bool
    """It asks for a WebSocket, and `upgrade` can grant it."""
    connection_number: int
    """As in `connection_marks`; 0 for a connection that is not marked."""

    async def receive(self) -> bytes | None:
        """The next piece of the request's body; None at its end.

        Raises BodyTooLarge and BodyTimeout; OSError once the answer is complete.
        """

    async def respond(self, status: int, headers: RawHeaders, body: bytes, *, close: bool = False) -> None:
        """Answer at once: head and body leave in one write where they fit.

        Headers that concern the connection are not sent, and the body's length takes the place of a content-length
        among `headers`; only an answer to HEAD and a 304 keep that, where `body` is empty. ValueError, before anything
        is sent, for headers that HTTP does not allow.

        Args:
            close: end the connection afterwards, and say so.
        """

    async def start(self, status: int, headers: RawHeaders) -> None:
        """Send the head of an answer whose body follows in pieces; a content-length among `headers` is binding.

        ValueError, before anything is sent, for headers that HTTP does not allow.
        """

    async def send(self, piece: bytes) -> None:
        """Send a piece of the body; waits while the client is slow to read. WrongBodyLength for a piece too many."""

    async def end(self) -> None:
        """End a body sent in pieces. WrongBodyLength if some are missing."""

    async def upgrade(self, headers: RawHeaders) -> SocketLink:
        """Answer 101: from then on the connection is a WebSocket, served by itself; this exchange is over.

        `listen` must be called on the link before giving up control. ValueError for headers that HTTP does not allow.
        """


App = Callable[[Exchange], Awaitable[None]]
