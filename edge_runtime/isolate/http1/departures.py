"""Notices that clients have gone, at no cost to the requests that are served meanwhile.

One epoll instance for all connections of an isolate, waited for by one task: a connection enters it when it opens and
leaves it when it closes. Reports are edge-triggered, so neither bytes nor an end that nobody reads yet keep it busy.
"""

from __future__ import annotations

import select
from typing import Protocol

import trio

_GONE = select.EPOLLHUP | select.EPOLLERR


class Watched(Protocol):
    def client_gone(self) -> None:
        """Nobody is there any more, to send or to receive."""

    def client_half_closed(self) -> None:
        """The client sends nothing more. Whether it still receives, TCP does not tell before something is sent."""


class Departures:
    """A context manager; `run` tells each connection added what becomes of its client."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, Watched] = {}

    def __enter__(self) -> Departures:
        return self

    def __exit__(self, *_: object) -> None:
        self._epoll.close()

    def add(self, descriptor: int, connection: Watched) -> None:
        self._watched[descriptor] = connection
        self._epoll.register(descriptor, select.EPOLLRDHUP | select.EPOLLET)

    def remove(self, descriptor: int) -> None:
        """Call before the descriptor is closed or given away."""
        del self._watched[descriptor]
        self._epoll.unregister(descriptor)

    async def run(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._epoll.fileno())
            for descriptor, events in self._epoll.poll(0):
                connection = self._watched[descriptor]
                if events & _GONE:
                    connection.client_gone()
                else:
                    connection.client_half_closed()
