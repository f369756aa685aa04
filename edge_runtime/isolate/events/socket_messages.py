"""Messages of accepted WebSockets as events of a worker. (Those of Durable Objects go through their mailboxes.)"""

from __future__ import annotations

import contextvars
from collections import deque
from collections.abc import Callable
from typing import Any

import trio

from edge_runtime.event import EventContext, EventKind, Events, Outcome, outcome_of
from edge_runtime.tracebacks import script_traceback
from edge_runtime.workers.websocket import WebSocket
from edge_runtime.workers.websocket_link import Handled
from edge_runtime.workers.websocket_recipient import Recipient, SocketFlags


class WorkerSockets:
    """`workers.websocket.Recipients` for events that belong to no actor."""

    def __init__(self, nursery: trio.Nursery, events: Events, flags: SocketFlags) -> None:
        self.flags = flags
        self._nursery = nursery
        self._events = events
        self._tasks = contextvars.copy_context()

    def recipient(self, event: EventContext, socket: WebSocket) -> Recipient:
        return _Listener(self, event.name)

    def start(self, listener: _Listener, call: Callable[[], Any], handled: Handled) -> None:
        self._tasks.copy().run(self._nursery.start_soon, self._run, listener, call, handled)

    async def _run(self, listener: _Listener, call: Callable[[], Any], handled: Handled) -> None:
        listener.begin_next()
        event = self._events.begin(EventKind.WEBSOCKET, listener.name)
        outcome, error = Outcome.CANCELED, ""
        try:
            await event.run(call)
            outcome = Outcome.OK
        except trio.Cancelled:
            raise
        except BaseException as failure:
            outcome, error = outcome_of(failure), script_traceback(failure)
        finally:
            handled()
            self._events.end(event, outcome, error=error)


class _Listener:
    """The events of one socket, charged to the handler that accepted it.

    An event begins when the one before it has given up control, and may end before that one does.
    """

    __slots__ = ("_begin_pending", "_sockets", "_waiting", "name")

    def __init__(self, sockets: WorkerSockets, name: str) -> None:
        self.name = name
        self._sockets = sockets
        self._waiting: deque[tuple[Callable[[], Any], Handled]] = deque()
        self._begin_pending = False

    def deliver(self, call: Callable[[], Any], handled: Handled) -> None:
        if self._begin_pending:
            self._waiting.append((call, handled))
        else:
            self._begin_pending = True
            self._sockets.start(self, call, handled)

    def begin_next(self) -> None:
        """Called when an event is running: the next one runs once it yields."""
        if self._waiting:
            self._sockets.start(self, *self._waiting.popleft())
        else:
            self._begin_pending = False
