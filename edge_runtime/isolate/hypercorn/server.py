"""HTTP/2, upgrades and, as a reference for `isolate.http1`, HTTP/1.1 on a handed-over socket, by hypercorn's protocols.

Hypercorn parses and frames; the socket, the tasks and the time limits are ours, because of faults that were reproduced
in its trio worker: a handler's BaseException ended the server, a client that does not read blocked shutdown for ever
(its write is shielded without a deadline), and every keep-alive request costs a fresh idle-timeout task.
"""

from __future__ import annotations

import logging

import trio
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext

from edge_runtime.isolate.http.exchange import App
from edge_runtime.isolate.http.open_connections import OpenConnections
from edge_runtime.isolate.hypercorn.connection import HypercornConnection
from edge_runtime.isolate.websockets.connection import WebSocketConnection
from edge_runtime.limits import (
    REQUEST_HEADERS_MAX,
    REQUEST_URL_MAX,
    REQUESTS_PER_CONNECTION_MAX,
)

_log = logging.getLogger("edge.http")


def hypercorn_config() -> Config:
    config = Config()
    config.include_server_header = False
    config.h11_max_incomplete_size = REQUEST_HEADERS_MAX + REQUEST_URL_MAX
    config.keep_alive_max_requests = REQUESTS_PER_CONNECTION_MAX
    config.errorlog = None
    return config


class HypercornServer:
    """Serves handed-over connections of one isolate with one application."""

    def __init__(self, app: App, connections: OpenConnections) -> None:
        self.app = app
        self.connections = connections
        self.config = hypercorn_config()
        self.context = WorkerContext(None)

    async def serve(self, stream: trio.SocketStream, received: bytes = b"") -> None:
        """Serve one connection until it closes. Raises nothing for whatever the client does.

        Args:
            received: bytes that were read from it already.
        """
        connection: HypercornConnection | WebSocketConnection = HypercornConnection(self, stream, received)
        del received
        self.connections.add(connection, connection.drain)
        try:
            upgraded = await connection.run()
            if upgraded is not None:
                # What hypercorn keeps of a connection is let go: a WebSocket may be open for days.
                self.connections.replace(connection, upgraded, upgraded.drain)
                connection = upgraded
                await upgraded.run()
        except Exception:
            _log.exception("a connection was closed because its protocol handler failed")
        finally:
            self.connections.remove(connection)

    async def drain(self) -> None:
        await self.context.terminated.set()
        self.connections.drain()
