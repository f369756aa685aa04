"""An application served on a loopback port by either implementation of HTTP connections, and reading from it."""

from contextlib import AsyncExitStack, asynccontextmanager

import trio

from edge_runtime.isolate.http.open_connections import OpenConnections
from edge_runtime.isolate.http1.client_socket import ClientSocket
from edge_runtime.isolate.http1.server import Http1Server
from edge_runtime.isolate.hypercorn.server import HypercornServer
from edge_runtime.seams import SystemClock


@asynccontextmanager
async def serving_by(implementation, app):
    """Gives a function that connects, and the server."""
    connections = OpenConnections()
    server = hypercorn = HypercornServer(app, connections)
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    async with AsyncExitStack() as clients, listener, trio.open_nursery() as nursery:
        if implementation == "llhttp":
            server = Http1Server(app, connections, hypercorn, SystemClock())
            await nursery.start(server.watch)

        async def accept():
            while True:
                stream = await listener.accept()
                client = ClientSocket(fileno=stream.socket.detach())
                nursery.start_soon(server.serve, client if implementation == "llhttp" else client.stream())

        async def connect():
            return await clients.enter_async_context(await trio.open_tcp_stream("127.0.0.1", port))

        nursery.start_soon(accept)
        yield connect, server
        nursery.cancel_scope.cancel()


async def read_all(stream):
    data = b""
    while piece := await stream.receive_some(65536):
        data += piece
    return data


async def read_until(stream, end):
    data = b""
    while end not in data:
        piece = await stream.receive_some(65536)
        assert piece, data
        data += piece
    return data
