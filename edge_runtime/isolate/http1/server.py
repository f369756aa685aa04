"""HTTP/1.1 on handed-over sockets, one task a connection (`http1.connection`).

No request costs a task, a nursery, a channel or a timer of its own. Time limits are looked at by one task for all
connections (`Http1Server.watch`), and clients that leave are noticed by one epoll instance (`http1.departures`).
HTTP/2, TLS and upgrades go to hypercorn with the bytes that were read.
"""

from __future__ import annotations

import logging
from collections.abc import Coroutine
from email.utils import formatdate
from typing import Any

import trio

from edge_runtime.connection_marks import UNKNOWN
from edge_runtime.isolate.http.exchange import App
from edge_runtime.isolate.http.open_connections import OpenConnections
from edge_runtime.isolate.http1.client_socket import Client
from edge_runtime.isolate.http1.connection import Http1Connection
from edge_runtime.isolate.http1.departures import Departures
from edge_runtime.isolate.hypercorn.server import HypercornServer
from edge_runtime.limits import CONNECTION_TICK_S
from edge_runtime.seams import Clock

_log = logging.getLogger("edge.http")


class Http1Server:
    """Serves handed-over connections of one isolate with one application; `watch` must run meanwhile."""

    def __init__(self, app: App, connections: OpenConnections, others: HypercornServer, clock: Clock) -> None:
        self.app = app
        self.connections = connections
        self.now_s = 0.0
        """Time in which connections could be served, in ticks of `watch`: a blocked event loop stops it."""
        self.date = b""
        self.half_closed: set[Http1Connection] = set()
        self._others = others
        self._clock = clock
        self._open: set[Http1Connection] = set()
        self._departures: Departures | None = None
        self._set_date()

    def serve(self, client: Client) -> Coroutine[Any, Any, None]:
        """Serve one connection until it closes. Raises nothing for whatever the client does.

        The connection is marked when this is called, not when its task first runs: from then on it is this isolate's.
        """
        return self._serve(Http1Connection(self, client), client)

    async def _serve(self, connection: Http1Connection, client: Client) -> None:
        self.connections.add(connection, connection.drain)
        self._open.add(connection)
        if self._departures is not None:
            self._departures.add(client.fileno(), connection)
        unserved: bytes | None = None
        try:
            with connection.scope:
                unserved = await connection.run()
        except Exception:
            _log.exception("a connection was closed because its protocol handler failed")
        finally:
            self._open.discard(connection)
            self.half_closed.discard(connection)
            if self._departures is not None:
                self._departures.remove(client.fileno())
            self.connections.remove(connection)
            connection.marks[connection.place] = UNKNOWN
            connection.parser.close()
            if unserved is None:
                client.close()
        if unserved is not None:
            del connection  # what takes over may be open for days
            await self._others.serve(client.stream(), unserved)

    async def watch(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the time limits of connections and notice clients that leave; runs until cancelled."""
        with Departures() as departures:
            self._departures = departures
            async with trio.open_nursery() as nursery:
                nursery.start_soon(departures.run)
                task_status.started()
                while True:
                    await trio.sleep(CONNECTION_TICK_S)
                    self.now_s += CONNECTION_TICK_S
                    self._set_date()
                    for connection in [each for each in self._open if each.expires_s <= self.now_s]:
                        connection.expire()
                    for connection in list(self.half_closed):
                        connection.probe()

    async def drain(self) -> None:
        await self._others.drain()

    def _set_date(self) -> None:
        self.date = b"date: %b\r\n" % formatdate(self._clock.now_ms() / 1000, usegmt=True).encode()
