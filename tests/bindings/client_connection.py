"""A client at the other end of a WebSocket, without a network."""

from __future__ import annotations

from edge_runtime.workers.response import Response
from edge_runtime.workers.websocket_link import Handled, SocketReceiver


class ClientConnection:
    """`SocketLink` as an isolate's connection is one: `got` is what was sent to the client, (code, reason) for a Close
    frame, "aborted" when it was cut off. `say`, `close_with` and `leave` are what the client does."""

    def __init__(self, response: Response) -> None:
        assert response.status == 101
        self.got: list[object] = []
        self.unhandled = 0
        self._receiver: SocketReceiver
        response.web_socket._couple(self)

    def listen(self, receiver: SocketReceiver) -> None:
        self._receiver = receiver

    def send(self, data: str | bytes, handled: Handled | None = None) -> None:
        self.got.append(data)
        if handled is not None:
            handled()

    def close(self, code: int, reason: str) -> None:
        self.got.append((code, reason))

    def abort(self, error: str | None = None) -> None:
        self.got.append("aborted")

    def say(self, data: str | bytes) -> None:
        self.unhandled += 1
        self._receiver.message(data, self._handled)

    def _handled(self) -> None:
        self.unhandled -= 1

    def close_with(self, code: int, reason: str = "") -> None:
        self._receiver.close(code, reason)

    def leave(self, error: str | None = None) -> None:
        self._receiver.lost(error)

    def taken(self) -> list[object]:
        """What the client got since the last look."""
        got, self.got = self.got, []
        return got
