"""WebSockets whose two sides are in different isolates: a client's connection here, and there the object behind it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import count

from edge_runtime.errors import WireError
from edge_runtime.frames import Message
from edge_runtime.isolate.peers.frames import SocketClosed, SocketHandled, SocketLost, SocketMessage
from edge_runtime.workers.websocket import WebSocket
from edge_runtime.workers.websocket_link import Handled, SocketReceiver
from edge_runtime.workers.websocket_recipient import SocketFlags


class _FarEnd:
    """`SocketLink` to the side that is in the other isolate."""

    def __init__(self, number: int, mine: bool, post: Callable[[Message], None], look: Callable[[], None]) -> None:
        """`look` is called when the socket may be over."""
        self.number = number
        self.mine = mine
        self._post = post
        self._look = look
        self._receiver: SocketReceiver | None = None
        self._arrived: list[Callable[[SocketReceiver], None]] = []
        self._unhandled: deque[Handled | None] = deque()
        self._over = False
        """This side has closed or given up."""
        self.ended = False
        """The other side has."""
        self._gone = False
        """The other side takes nothing any more."""

    def listen(self, receiver: SocketReceiver) -> None:
        self._receiver = receiver
        arrived, self._arrived = self._arrived, []
        for give in arrived:
            give(receiver)

    def send(self, data: str | bytes, handled: Handled | None = None) -> None:
        if self._over or self._gone:
            if handled is not None:
                handled()
            return
        self._unhandled.append(handled)
        if isinstance(data, str):
            self._post(SocketMessage(self.number, self.mine, None, data))
        else:
            self._post(SocketMessage(self.number, self.mine, data, None))

    def close(self, code: int, reason: str) -> None:
        if not self._over:
            self._over = True
            self._post(SocketClosed(self.number, self.mine, code, reason))
            self._look()

    def abort(self, error: str | None = None) -> None:
        if not self._over:
            self._over = True
            self._post(SocketLost(self.number, self.mine, error))
            self.forget()
            self._look()

    def give(self, give: Callable[[SocketReceiver], None]) -> None:
        if self._receiver is None:
            self._arrived.append(give)
        else:
            give(self._receiver)

    def handled(self) -> None:
        if not self._unhandled:
            if self._gone:
                return  # forgotten
            raise WireError("more messages were handled than were sent")
        handled = self._unhandled.popleft()
        if handled is not None:
            handled()

    def forget(self) -> None:
        """Nobody will handle what was sent."""
        self._gone = True
        while self._unhandled:
            self.handled()

    @property
    def over(self) -> bool:
        return self._over and self.ended and not self._unhandled


class PeerSockets:
    """The WebSockets of one link. A socket has the number that the side gave it which sends it in a response."""

    def __init__(self, post: Callable[[Message], None], flags: SocketFlags) -> None:
        self._post = post
        self._flags = flags
        self._numbers = count(1)
        self._ends: dict[tuple[int, bool], _FarEnd] = {}

    def send(self, socket: WebSocket) -> int:
        """Pass a free end on; returns its number. TypeError if it is in use."""
        socket._check_free()
        end = self._add(next(self._numbers), True)
        socket._couple(end)
        return end.number

    def receive(self, number: int) -> WebSocket:
        """The end that the other isolate passed on."""
        if (number, False) in self._ends:
            raise WireError(f"the socket {number} came twice")
        return WebSocket(self._add(number, False), self._flags)

    def _add(self, number: int, mine: bool) -> _FarEnd:
        def look() -> None:
            if end.over:
                self._ends.pop((number, mine), None)

        end = self._ends[number, mine] = _FarEnd(number, mine, self._post, look)
        return end

    def take(self, frame: SocketMessage | SocketClosed | SocketLost | SocketHandled) -> None:
        # What is the sender's own is the receiver's other one's.
        end = self._ends.get((frame.socket, not frame.mine))
        if end is None:
            if isinstance(frame, SocketHandled):
                return  # of a socket that was given up
            raise WireError(f"there is no socket {frame.socket}")
        if end.ended and not isinstance(frame, SocketHandled):
            raise WireError(f"something came on socket {frame.socket} after its end")
        match frame:
            case SocketMessage(data=data, text=text):
                message = data if text is None else text
                if message is None:
                    raise WireError("a message of a socket is neither binary nor text")
                end.give(lambda receiver: receiver.message(message, self._handler(end)))
            case SocketClosed(code=code, reason=reason):
                end.ended = True
                end.give(lambda receiver: receiver.close(code, reason))
            case SocketLost(error=error):
                end.ended = True
                end.forget()
                end.give(lambda receiver: receiver.lost(error))
            case SocketHandled():
                end.handled()
        end._look()

    def _handler(self, end: _FarEnd) -> Handled:
        return lambda: self._post(SocketHandled(end.number, end.mine))

    def lost(self) -> None:
        """The other isolate is gone."""
        ends, self._ends = self._ends, {}
        for end in ends.values():
            end.forget()
            if not end.ended:
                end.ended = True
                end.give(lambda receiver: receiver.lost(None))
