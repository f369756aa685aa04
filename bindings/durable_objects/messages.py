"""What travels from a stub, or from a socket, to an object.

Arguments of calls are in plain form (`conversion.to_wire`), copied at the call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from edge_runtime.event import EventContext
from edge_runtime.workers.request import Request
from edge_runtime.workers.websocket import WebSocket


class RpcCall(msgspec.Struct, frozen=True):
    method: str
    args: list[Any]
    caller: EventContext | None = None
    """The event that gets the result, if it is of this isolate; then the reply is what its script gets. Without one
    it is in plain form."""


@dataclass(frozen=True, slots=True)
class FetchCall:
    request: Request
    """Passed by reference: its body is streamed."""


class SocketEvent:
    """Something that happened on a hibernatable socket: the object's method `handler` is called with the socket and
    `args`. `begin` is called just before, or when that will never be; then `prepare` has its effect, once. `size` is
    that of a message, in bytes."""

    __slots__ = ("_prepare", "args", "begun", "handler", "size", "socket")

    def __init__(
        self,
        socket: WebSocket,
        handler: str,
        args: tuple[object, ...],
        prepare: Callable[[], None] | None = None,
        size: int = 0,
    ) -> None:
        self.socket = socket
        self.handler = handler
        self.args = args
        self.begun = False
        self.size = size
        self._prepare = prepare

    def begin(self) -> None:
        if not self.begun:
            self.begun = True
            if self._prepare is not None:
                self._prepare()


@dataclass(frozen=True, slots=True)
class ListenerCall:
    """Something that happened on a socket that an activation's code listens to."""

    owner: object
    """The activation's body; for any other the call comes too late."""
    name: str
    """The handler that accepted the socket, which is charged."""
    call: Callable[[], Any]
