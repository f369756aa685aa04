"""Clients of the HTTP/1.1 loop that end their side, stay silent or are gone."""

import socket

import pytest
import trio
import trio.testing
from edge_process import PATIENCE_S
from http1_clients import GET, GET_1_0, clients_of, responding, server_of
from http_server import read_all, read_until
from memory_connections import MemoryClient

from edge_runtime.isolate.http1 import connection as http1_connection
from edge_runtime.isolate.http1 import server as http1_server
from edge_runtime.isolate.http1.client_socket import ClientSocket


async def test_head_that_does_not_come_to_an_end_is_answered_408(monkeypatch):
    monkeypatch.setattr(http1_connection, "REQUEST_HEAD_S", 0.05)
    async with clients_of(responding(200)) as (connect, _):
        stream = await connect()
        await stream.send_all(b"GET / HTTP/1.1\r\nHo")
        received = await read_all(stream)
    assert received.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in received


@pytest.mark.parametrize("framing", [[], [(b"content-length", b"4")]])
async def test_half_closed_client_gets_its_whole_answer(monkeypatch, framing):
    for module in (http1_server, http1_connection):
        monkeypatch.setattr(module, "CONNECTION_TICK_S", 60)  # it is not probed meanwhile
    go_on = trio.Event()

    async def app(exchange):
        await exchange.start(200, framing)
        await exchange.send(b"ab")
        await go_on.wait()
        await exchange.send(b"cd")
        await exchange.end()

    async with clients_of(app) as (connect, server):
        stream = await connect()
        await stream.send_all(GET)
        await stream.send_eof()
        received = await read_until(stream, b"ab")
        while not server.half_closed:
            await trio.sleep(0.01)
        go_on.set()
        received += await read_all(stream)
    assert received.endswith(b"abcd" if framing else b"2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n")


async def test_half_closed_client_that_is_still_there_survives_being_probed(monkeypatch):
    for module in (http1_server, http1_connection):
        monkeypatch.setattr(module, "CONNECTION_TICK_S", 0.02)
    go_on = trio.Event()

    async def app(exchange):
        if exchange.target == b"/stream":
            await exchange.start(200, [])
        await go_on.wait()
        if exchange.started:
            await exchange.send(b"late")
            await exchange.end()
        else:
            await exchange.respond(200, [], b"late")

    async with clients_of(app) as (connect, _):
        whole, streamed = await connect(), await connect()
        await whole.send_all(GET)
        await streamed.send_all(GET.replace(b"/ ", b"/stream "))
        await whole.send_eof()
        await streamed.send_eof()
        received = await read_until(whole, b"100 Continue\r\n\r\n")
        first = await read_until(streamed, b"\r\n\r\n0")
        go_on.set()
        received += await read_all(whole)
        first += await read_all(streamed)
    assert received.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert received.endswith(b"late")
    assert first.endswith(b"\r\n\r\n04\r\nlate\r\n0\r\n\r\n")


@pytest.mark.parametrize("started", [False, True])
async def test_client_that_is_gone_cancels_its_handler(started):
    cancelled = trio.Event()

    async def app(exchange):
        if started:
            await exchange.start(200, [])
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    async with clients_of(app) as (connect, server):
        stream = await connect()
        await stream.send_all(GET)
        if started:
            await read_until(stream, b"\r\n\r\n")
        await stream.aclose()
        await cancelled.wait()
        await server.connections.wait_empty()


async def test_client_of_a_unix_socket_may_half_close_too():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
    go_on = trio.Event()

    async def app(exchange):
        await go_on.wait()
        await exchange.respond(200, [], b"late")

    server = server_of(app)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.watch)
        nursery.start_soon(server.serve, ClientSocket(fileno=theirs.detach()))
        await stream.send_all(GET)
        await stream.send_eof()
        await trio.testing.wait_all_tasks_blocked()
        go_on.set()
        with trio.fail_after(PATIENCE_S):
            assert (await read_all(stream)).endswith(b"late")
        nursery.cancel_scope.cancel()
    await stream.aclose()


async def test_stream_that_fails_before_an_old_client_resets_its_connection():
    async def app(exchange):
        await exchange.start(200, [])
        await exchange.send(b"half")

    client = MemoryClient([GET_1_0])
    await server_of(app).serve(client)
    assert client.broken_off
