"""The pairs of the WebSocket API: of two sockets, and of a message and its automatic answer."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

from edge_runtime.event import require_event
from edge_runtime.workers.js_object import JsObject
from edge_runtime.workers.websocket import WebSocket
from edge_runtime.workers.websocket_link import pipe
from edge_runtime.workers.websocket_recipient import SocketFlags


def open_pair(flags: SocketFlags) -> tuple[WebSocket, WebSocket]:
    """Two free ends, each the other side of the other."""
    first, second = (WebSocket(link, flags) for link in pipe())
    first._peer, second._peer = weakref.ref(second), weakref.ref(first)
    return first, second


class WebSocketPair(JsObject):
    """Two sockets, each the other side of the other: `client, server = WebSocketPair.new()`."""

    __slots__ = ("_ends",)

    def __init__(self) -> None:
        self._ends = open_pair(require_event("WebSocketPair.new()").sockets.flags)

    def object_keys(self) -> list[str]:
        return ["0", "1"]

    def object_values(self) -> list[WebSocket]:
        return list(self._ends)

    def object_entries(self) -> list[list[Any]]:
        return [[str(number), socket] for number, socket in enumerate(self._ends)]

    def __iter__(self) -> Iterator[WebSocket]:
        return iter(self._ends)

    def __getitem__(self, number: int | str) -> WebSocket:
        return self._ends[int(number)]


class WebSocketRequestResponsePair(JsObject):
    """A message and the answer that the runtime gives it without waking the Durable Object."""

    __slots__ = ("request", "response")

    def __init__(self, request: str, response: str) -> None:
        self.request = str(request)
        self.response = str(response)

    def __repr__(self) -> str:
        return f"<WebSocketRequestResponsePair {self.request!r}, {self.response!r}>"
