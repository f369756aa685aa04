"""What the HTTP/1.1 loop promises beyond what both implementations do: framing, limits, half-closed clients."""

import socket
import struct
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio
import trio.testing
from edge_process import PATIENCE_S
from memory_connections import MemoryClient

from edge_runtime.isolate import http1_connection, http1_exchange, http1_loop
from edge_runtime.isolate.client_socket import ClientSocket
from edge_runtime.isolate.connection import BodyTimeout, Connections, WrongBodyLength
from edge_runtime.isolate.http1_connection import Http1Connections
from edge_runtime.isolate.hypercorn_connection import HypercornConnections
from edge_runtime.seams import SystemClock

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
GET_1_0 = b"GET / HTTP/1.0\r\n\r\n"


def server_of(app):
    connections = Connections()
    return Http1Connections(app, connections, HypercornConnections(app, connections), SystemClock())


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
    server = server_of(app)
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with AsyncExitStack() as clients, listener, trio.open_nursery() as nursery:
        await nursery.start(server.watch)

        async def accept():
            while True:
                stream = await listener.accept()
                nursery.start_soon(server.serve, ClientSocket(fileno=stream.socket.detach()))

        async def connect():
            port = listener.socket.getsockname()[1]
            return await clients.enter_async_context(await trio.open_tcp_stream("127.0.0.1", port))

        nursery.start_soon(accept)
        with trio.fail_after(PATIENCE_S):
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


# Framing of answers


@pytest.mark.parametrize(
    ("method", "status", "headers", "body", "length", "sent"),
    [
        (b"GET", 200, [], b"abc", b"3", b"abc"),
        (b"GET", 200, [(b"content-length", b"99")], b"abc", b"3", b"abc"),
        (b"GET", 200, [], b"", b"0", b""),
        (b"HEAD", 200, [], b"abc", b"3", b""),
        (b"HEAD", 200, [(b"content-length", b"99")], b"", b"99", b""),
        (b"GET", 204, [(b"content-length", b"3")], b"", None, b""),
        (b"GET", 304, [(b"content-length", b"99")], b"", b"99", b""),
        (b"GET", 304, [], b"", None, b""),
        (b"GET", 205, [], b"", b"0", b""),
    ],
)
async def test_length_is_the_bodys_where_there_is_one(method, status, headers, body, length, sent):
    answer = await answered(responding(status, headers, body), method + GET[3:])
    found, sent_headers, rest = head_and_body(answer)
    assert (found, rest) == (status, sent)
    assert [value for name, value in sent_headers if name == b"content-length"] == ([] if length is None else [length])
    assert b"transfer-encoding" not in dict(sent_headers)


@pytest.mark.parametrize(
    ("request_", "headers", "answer"),
    [
        (GET, [], b"transfer-encoding: chunked|2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"),
        (GET, [(b"content-length", b"3")], b"content-length: 3|abc"),
        (GET, [(b"content-length", b"x")], b"transfer-encoding: chunked|2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"),
        (GET, [(b"content-length", b"3"), (b"content-length", b"4")], b"transfer-encoding: chunked|2\r\nab\r\n1\r\nc"),
        (GET, [(b"transfer-encoding", b"gzip")], b"transfer-encoding: chunked|2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"),
        (GET_1_0, [], b"connection: close|abc"),
        (b"HEAD" + GET[3:], [], b"transfer-encoding: chunked|"),
        (b"HEAD" + GET[3:], [(b"content-length", b"3")], b"content-length: 3|"),
    ],
)
async def test_streams_are_framed_by_length_chunks_or_the_end_of_the_connection(request_, headers, answer):
    received = await answered(streaming(headers, b"ab", b"", b"c"), request_)
    head, _, body = received.partition(b"\r\n\r\n")
    line, _, framed = answer.partition(b"|")
    assert line in head.split(b"\r\n")
    assert body.startswith(framed)
    assert body == framed or framed.endswith(b"c")


@pytest.mark.parametrize(
    ("pieces", "sent", "reason"),
    [
        ([b"abc", b"d"], b"abc", "longer than its content-length by 1 bytes"),
        ([b"ab"], b"ab", "shorter than its content-length by 1 bytes"),
    ],
)
async def test_stream_of_another_length_than_declared_is_cut_off_and_told_in_one_line(pieces, sent, reason):
    told = []

    async def app(exchange):
        try:
            await streaming([(b"content-length", b"3")], *pieces)(exchange)
        except WrongBodyLength as error:
            told.append(str(error))

    received = await answered(app, GET, GET)
    assert received.endswith(b"\r\n\r\n" + sent)
    assert reason in told[0]


@pytest.mark.parametrize(
    "header",
    [
        (b"x", b"a\r\nset-cookie: b"),
        (b"x", b"a\nb"),
        (b"x", b"a\rb"),
        (b"x", b"a\x00b"),
        (b"x: y\r\nz", b"a"),
        (b"x y", b"a"),
        (b"", b"a"),
        (b"x:", b"a"),
    ],
)
async def test_response_cannot_be_split_by_a_header(header):
    told = []

    async def app(exchange):
        for answer in (exchange.respond(200, [header], b"no"), exchange.start(200, [header])):
            try:
                await answer
            except ValueError as error:
                told.append(str(error))
        assert not exchange.started
        await exchange.respond(500, [], b"refused")

    received = await answered(app, GET)
    assert received.startswith(b"HTTP/1.1 500 ")
    assert len(told) == 2


async def test_date_is_sent_unless_the_script_sets_it():
    assert b"\r\ndate: " in await answered(responding(200), GET)
    received = await answered(responding(200, [(b"date", b"then")]), GET)
    assert [value for name, value in head_and_body(received)[1] if name == b"date"] == [b"then"]


async def test_connection_of_an_old_client_is_kept_when_it_asks_for_that():
    received = await answered(responding(200, [], b"ok"), GET_1_0[:-2] + b"Connection: keep-alive\r\n\r\n", GET_1_0)
    first, last = received.split(b"HTTP/1.1 200 OK")[1:]
    assert b"connection: keep-alive" in first
    assert b"connection: close" in last


# Bodies of requests


async def echo(exchange):
    body = b""
    while (piece := await exchange.receive()) is not None:
        body += piece
    await exchange.respond(200, [], body)


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


# Clients that are slow, half-closed or gone


async def test_head_that_does_not_come_to_an_end_is_answered_408(monkeypatch):
    monkeypatch.setattr(http1_loop, "REQUEST_HEAD_S", 0.05)
    async with clients_of(responding(200)) as (connect, _):
        stream = await connect()
        await stream.send_all(b"GET / HTTP/1.1\r\nHo")
        received = await read_all(stream)
    assert received.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in received


@pytest.mark.parametrize("framing", [[], [(b"content-length", b"4")]])
async def test_half_closed_client_gets_its_whole_answer(monkeypatch, framing):
    for module in (http1_connection, http1_loop):
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
    for module in (http1_connection, http1_loop):
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


async def test_answers_while_draining_say_that_the_connection_closes():
    go_on = trio.Event()

    async def app(exchange):
        await go_on.wait()
        await exchange.respond(200, [], b"ok")

    async with clients_of(app) as (connect, server):
        stream = await connect()
        await stream.send_all(GET + GET)
        while not len(server.connections):
            await trio.sleep(0.01)
        await trio.testing.wait_all_tasks_blocked()
        await server.drain()
        go_on.set()
        received = await read_all(stream)
    assert received.count(b"HTTP/1.1 200 OK") == 1
    assert b"connection: close" in received


# What is hypercorn's


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
