"""The network as workers reach it, and what every request that leaves obeys: the event's limits, its output gate.

How a request travels is behind the `Net` seam (`workers.http_net` in production); the isolate puts the Net into each
event context.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple, Protocol

import trio

from edge_runtime.event import EventContext
from edge_runtime.limits import OPEN_CONNECTIONS_MAX
from edge_runtime.workers.headers import RawHeaders
from edge_runtime.workers.streams import ReadableStream, Receive
from edge_runtime.workers.websocket_link import SocketLink


class Hop(NamedTuple):
    """One request to one URL. A stream body can be sent once."""

    method: str
    url: str
    headers: RawHeaders
    body: bytes | ReadableStream | None


class Reply(NamedTuple):
    """The head of an answer, and the way to its body: `receive` gives its pieces and None at the end (then the
    connection is free again); `close` gives up the rest, and may be called at any time. With a `socket` the answer is
    101 and has no body: the connection is a WebSocket."""

    status: int
    reason: str
    headers: RawHeaders
    receive: Receive
    close: Callable[[], Awaitable[None]]
    socket: SocketLink | None = None


class Net(Protocol):
    """The network as workers reach it."""

    async def send(self, hop: Hop) -> Reply:
        """Send one request and return when the head of the answer is there; redirects are not followed.

        OSError if there is no answer. Cancelling closes the connection.
        """

    async def upgrade(self, hop: Hop) -> Reply:
        """Ask for a WebSocket, on a connection of its own; as `send` otherwise. The hop has no body.

        What of its headers belongs to the handshake is not sent, except for `sec-websocket-protocol`.
        """


@asynccontextmanager
async def turn_to_send(event: EventContext) -> AsyncIterator[None]:
    """One of the event's connections, once there is one to be had and its actor's output gate is open."""
    if event.open_fetches is None:
        event.open_fetches = trio.CapacityLimiter(OPEN_CONNECTIONS_MAX)
    async with event.open_fetches:
        if event.actor is not None:
            await event.actor.wait_durable()
        yield


def count_fetch(event: EventContext) -> None:
    """OSError if the event has sent as many requests as it may."""
    if event.subrequests_max is not None and event.meter.subrequests >= event.subrequests_max:
        raise OSError("Too many subrequests.")
    event.meter.count_subrequest()
