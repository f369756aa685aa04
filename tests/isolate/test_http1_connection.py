"""What the HTTP/1.1 loop does with the bodies of requests, and what it leaves to hypercorn."""

import socket
import struct

import pytest
import trio
import trio.testing
from http1_clients import GET, answered, clients_of, echo, responding
from http_server import read_all

from edge_runtime.isolate.http.exchange import BodyTimeout
from edge_runtime.isolate.http1 import exchange as http1_exchange

EXPECTING = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"


async def test_continue_is_sent_when_the_body_is_wanted():
    received = await answered(echo, EXPECTING, b"ab")
    assert received.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


async def test_body_that_is_not_wanted_is_not_asked_for():
    received = await answered(responding(403), EXPECTING)
    assert received.startswith(b"HTTP/1.1 403 ")
    assert b"connection: close" in received


async def test_trailers_reach_neither_this_request_nor_the_next():
    seen = []

    async def app(exchange):
        await echo(exchange)
        seen.append(dict(exchange.headers))

    chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Evil: 1\r\n\r\n"
    await answered(app, chunked + GET)
    assert len(seen) == 2
    assert not any(b"x-evil" in headers for headers in seen)


async def test_chunks_that_are_mostly_overhead_are_refused():
    chunks = b"1;" + b"x" * 4000 + b"\r\na\r\n"
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    received = await answered(echo, head, *[chunks] * 100)
    assert received.startswith(b"HTTP/1.1 400 ")


async def test_slow_body_is_given_up_and_the_handler_told(monkeypatch):
    monkeypatch.setattr(http1_exchange, "REQUEST_BODY_WINDOW_S", 0.05)

    async def app(exchange):
        try:
            await echo(exchange)
        except BodyTimeout:
            await exchange.respond(408, [], b"slow", close=True)

    async with clients_of(app) as (connect, _):
        stream = await connect()
        await stream.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9000\r\n\r\nabc")
        assert (await read_all(stream)).startswith(b"HTTP/1.1 408 ")


async def test_background_task_that_reads_the_body_learns_that_the_client_left():
    told = trio.Event()

    async def read(exchange):
        with pytest.raises(OSError, match="body"):
            await exchange.receive()
        told.set()

    async with trio.open_nursery() as background:

        async def app(exchange):
            background.start_soon(read, exchange)
            await trio.sleep_forever()

        async with clients_of(app) as (connect, server):
            stream = await connect()
            await stream.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
            await trio.testing.wait_all_tasks_blocked()
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            stream.socket.close()
            await told.wait()
            await server.connections.wait_empty()


async def test_request_with_the_same_bytes_as_one_before_is_a_request_of_its_own():
    seen = []

    async def app(exchange):
        seen.append(list(exchange.headers))
        exchange.headers.append((b"x-mine", b"1"))
        await exchange.respond(200, [], b"")

    await answered(app, GET, GET + GET, GET)
    assert seen == [[(b"host", b"a")]] * 4


async def test_http2_with_prior_knowledge_goes_on_with_the_bytes_that_were_read():
    import h2.connection
    import h2.events

    client = h2.connection.H2Connection()
    client.initiate_connection()
    client.send_headers(
        1, [(":method", "GET"), (":path", "/h2"), (":authority", "a"), (":scheme", "http")], end_stream=True
    )
    data = client.data_to_send()

    async def app(exchange):
        assert exchange.http_version == "2"
        await exchange.respond(200, [(b"content-length", b"3")], exchange.target)

    for at in (1, 3, 4, 14, 40):
        received = await answered(app, data[:at], data[at:])
        peer = h2.connection.H2Connection()
        peer.initiate_connection()
        peer.send_headers(
            1, [(":method", "GET"), (":path", "/h2"), (":authority", "a"), (":scheme", "http")], end_stream=True
        )
        bodies = [event.data for event in peer.receive_data(received) if isinstance(event, h2.events.DataReceived)]
        assert b"".join(bodies) == b"/h2"


async def test_request_for_an_upgrade_is_served_by_hypercorn_after_others_on_the_same_connection():
    seen = []

    async def app(exchange):
        seen.append((exchange.target, exchange.upgradable))
        await exchange.respond(200, [(b"content-length", b"2")], b"ok")

    asking = (
        b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    received = await answered(app, GET + asking[:50], asking[50:])
    assert seen == [(b"/", False), (b"/chat", True)]
    assert received.count(b"HTTP/1.1 200") == 2
