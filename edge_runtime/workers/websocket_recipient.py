"""Who gets the events of an accepted WebSocket, and what the compatibility date says about them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from edge_runtime.config.model import WorkerConfig
from edge_runtime.workers.websocket_link import Handled


class SocketFlags(NamedTuple):
    """What the compatibility date decides."""

    auto_reply: bool = True
    """A Close frame is answered before its event is delivered (`web_socket_auto_reply_to_close`)."""
    blobs: bool = False
    """Binary messages are Blobs to listeners by default (`websocket_standard_binary_type`)."""


def socket_flags(worker: WorkerConfig) -> SocketFlags:
    return SocketFlags(
        worker.flag("web_socket_auto_reply_to_close", "2026-04-07", "web_socket_manual_reply_to_close"),
        worker.flag("websocket_standard_binary_type", "2026-03-17", "no_websocket_standard_binary_type"),
    )


class Recipient(Protocol):
    """Whose code the events of one accepted socket call."""

    def deliver(self, call: Callable[[], Any], handled: Handled) -> None:
        """Have the script's `call()` run as an event of its own, begun after those delivered before. `handled` is
        called when it has ended, or will never run."""
