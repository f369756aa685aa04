"""The HTTP/1.1 loop in front of an application: whole conversations in memory, clients by TCP."""

from contextlib import asynccontextmanager

import trio
from edge_process import PATIENCE_S
from http_server import serving_by
from memory_connections import MemoryClient

from edge_runtime.isolate.http.open_connections import OpenConnections
from edge_runtime.isolate.http1.server import Http1Server
from edge_runtime.isolate.hypercorn.server import HypercornServer
from edge_runtime.seams import SystemClock

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
GET_1_0 = b"GET / HTTP/1.0\r\n\r\n"


def server_of(app):
    connections = OpenConnections()
    return Http1Server(app, connections, HypercornServer(app, connections), SystemClock())


async def answered(app, *pieces):
    """All that the server sends to a client that sends `pieces` and ends."""
    client = MemoryClient(pieces)
    await server_of(app).serve(client)
    return bytes(client.received)


def head_and_body(answer):
    """Status, headers and body of one answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    line, *lines = head.split(b"\r\n")
    return int(line.split()[1]), [tuple(header.split(b": ", 1)) for header in lines], body


def responding(status, headers=(), body=b""):
    async def app(exchange):
        await exchange.respond(status, headers, body)

    return app


def streaming(headers, *pieces):
    async def app(exchange):
        await exchange.start(200, headers)
        for piece in pieces:
            await exchange.send(piece)
        await exchange.end()

    return app


@asynccontextmanager
async def clients_of(app):
    """A function that connects by TCP, and the server."""
    with trio.fail_after(PATIENCE_S):
        async with serving_by("llhttp", app) as served:
            yield served


async def echo(exchange):
    body = b""
    while (piece := await exchange.receive()) is not None:
        body += piece
    await exchange.respond(200, [], body)
