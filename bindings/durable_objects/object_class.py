"""The class of a Durable Object, as its objects are told of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edge_runtime.workers.websocket_recipient import SocketFlags


@dataclass(frozen=True, slots=True)
class ObjectClass:
    """A script's class, and how its objects are to be run."""

    cls: type[Any]
    env: Any
    sqlite: bool
    delete_all_deletes_alarm: bool
    socket_flags: SocketFlags

    @property
    def name(self) -> str:
        return self.cls.__name__
