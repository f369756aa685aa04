"""The HTTP connection seam on real sockets: framing, back-pressure, clients that leave or do not read, draining."""

import socket

import pytest
import trio
import trio.testing
from edge_process import PATIENCE_S
from http_server import read_all, read_until

from edge_runtime.isolate.http.exchange import BodyTooLarge

PLAIN = [(b"content-type", b"text/plain")]


def respond_with(body, status=200):
    async def app(exchange):
        headers = [*PLAIN, (b"content-length", str(len(body)).encode())]
        await exchange.respond(status, headers, body)

    return app


async def test_keep_alive_serves_request_after_request_on_one_connection(serving):
    async with serving(respond_with(b"hi")) as (connect, _):
        stream = await connect()
        for _ in range(3):
            await stream.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await read_until(stream, b"\r\n\r\nhi")).startswith(b"HTTP/1.1 200")


async def test_pipelined_requests_are_answered_in_order(serving):
    async def app(exchange):
        await exchange.respond(200, [(b"content-length", str(len(exchange.target)).encode())], exchange.target)

    async with serving(app) as (connect, _):
        stream = await connect()
        await stream.send_all(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % i for i in range(10)))
        data = await read_until(stream, b"/9")
        places = [data.index(b"\r\n\r\n/%d" % i) for i in range(10)]
        assert places == sorted(places)


async def test_connection_closes_after_its_last_request(serving, set_limit):
    set_limit("REQUESTS_PER_CONNECTION_MAX", 3)
    async with serving(respond_with(b"hi")) as (connect, _):
        stream = await connect()
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 5)
        received = (await read_all(stream)).lower()
        assert received.count(b"http/1.1 200") == 3
        assert received.count(b"connection: close") == 1


async def test_streamed_body_arrives_chunked_and_request_body_streams_in(serving):
    async def app(exchange):
        await exchange.start(200, PLAIN)
        while (piece := await exchange.receive()) is not None:
            await exchange.send(piece.upper())
        await exchange.end()

    async with serving(app) as (connect, _):
        stream = await connect()
        await stream.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await read_until(stream, b"ABC")
        await stream.send_all(b"2\r\nde\r\n0\r\n\r\n")
        assert b"DE" in await read_until(stream, b"0\r\n\r\n")


async def test_client_that_leaves_cancels_the_handler(serving):
    cancelled = trio.Event()

    async def app(exchange):
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    async with serving(app) as (connect, _):
        stream = await connect()
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await stream.aclose()
        with trio.fail_after(PATIENCE_S):
            await cancelled.wait()


async def test_body_nobody_reads_does_not_hold_the_answer(serving):
    async with serving(respond_with(b"early")) as (connect, server):
        stream = await connect()
        await stream.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\n" + b"x" * 200_000)
        with trio.fail_after(PATIENCE_S):
            await read_until(stream, b"early")
            await stream.aclose()
            await server.connections.wait_empty()


@pytest.mark.parametrize("streamed", [False, True])
async def test_connection_serves_on_after_a_body_that_arrives_late_and_unread(serving, streamed):
    async def app(exchange):
        if streamed:
            await exchange.start(200, [(b"content-length", b"5")])
            await exchange.send(b"early")
            await exchange.end()
        else:
            await exchange.respond(200, [(b"content-length", b"5")], b"early")

    async with serving(app) as (connect, _):
        stream = await connect()
        with trio.fail_after(PATIENCE_S):
            for _ in range(2):
                await stream.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
                await trio.testing.wait_all_tasks_blocked()
                await stream.send_all(b"x" * 100_000)
                await read_until(stream, b"early")


async def test_connection_that_will_not_serve_on_says_so(serving):
    async with serving(respond_with(b"early")) as (connect, _):
        stream = await connect()
        await stream.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\n")
        with trio.fail_after(PATIENCE_S):
            assert b"connection: close" in await read_all(stream)


async def test_rest_of_a_body_is_not_taken_for_its_end_after_the_answer(serving):
    found = []

    async def app(exchange):
        await exchange.respond(200, [(b"content-length", b"5")], b"early")
        with pytest.raises(OSError, match="after the response has been sent"):
            found.append(await exchange.receive())
        found.append("refused")

    async with serving(app) as (connect, _):
        stream = await connect()
        await stream.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n")
        await trio.testing.wait_all_tasks_blocked()
        await stream.send_all(b"x" * 10)
        with trio.fail_after(PATIENCE_S):
            await read_until(stream, b"early")
            while not found:
                await trio.sleep(0.01)
    assert found == ["refused"]


async def test_body_over_the_limit_is_reported_to_the_handler(serving, set_limit):
    set_limit("REQUEST_BODY_MAX", 1000)

    async def app(exchange):
        try:
            while await exchange.receive() is not None:
                pass
        except BodyTooLarge:
            await exchange.respond(413, [(b"content-length", b"0"), (b"connection", b"close")], b"")

    async with serving(app) as (connect, _):
        stream = await connect()
        await stream.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n" + b"x" * 2000)
        assert (await read_all(stream)).startswith(b"HTTP/1.1 413")


async def test_client_that_does_not_read_is_cut_off_after_the_write_deadline(serving, set_limit):
    set_limit("WRITE_TIMEOUT_S", 0.1)
    over = trio.Event()

    async def app(exchange):
        try:
            await exchange.start(200, PLAIN)
            while True:
                await exchange.send(b"x" * 65536)
        finally:
            over.set()

    async with serving(app) as (connect, server):
        stream = await connect()
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        with trio.fail_after(PATIENCE_S):
            await over.wait()
            await server.connections.wait_empty()


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"\x00" * 100 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nbad header\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 64,
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"x: " + b"y" * 300_000 + b"\r\n\r\n",
    ],
)
async def test_garbage_ends_its_own_connection_only(serving, garbage):
    async with serving(respond_with(b"fine")) as (connect, _):
        bad = await connect()
        try:
            await bad.send_all(garbage)
            await bad.send_eof()
            with trio.move_on_after(PATIENCE_S):
                await read_all(bad)
        except trio.BrokenResourceError:
            pass  # cut off while sending
        good = await connect()
        await good.send_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert (await read_all(good)).endswith(b"fine")


async def test_drain_closes_idle_connections_and_lets_the_busy_one_finish(serving):
    begun, go_on = trio.Event(), trio.Event()

    async def app(exchange):
        if exchange.target == b"/slow":
            begun.set()
            await go_on.wait()
        await exchange.respond(200, [(b"content-length", b"2")], b"ok")

    async with serving(app) as (connect, server):
        idle, busy = await connect(), await connect()
        await idle.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await read_until(idle, b"ok")
        await busy.send_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        await begun.wait()
        await server.drain()
        assert await read_all(idle) == b""
        go_on.set()
        assert (await read_all(busy)).endswith(b"ok")
        with trio.fail_after(PATIENCE_S):
            await server.connections.wait_empty()


async def test_connection_that_is_handed_over_just_as_the_drain_begins_is_answered(serving):
    async with serving(respond_with(b"ok")) as (connect, server):
        await server.drain()
        stream = await connect()
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = await read_all(stream)
        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.endswith(b"ok")
        with trio.fail_after(PATIENCE_S):
            await server.connections.wait_empty()


async def test_idle_connection_is_closed_after_the_keep_alive_time(serving, set_limit):
    set_limit("KEEP_ALIVE_TIMEOUT_S", 0.05)
    async with serving(respond_with(b"hi")) as (connect, _):
        stream = await connect()
        with trio.fail_after(PATIENCE_S):
            assert await read_all(stream) == b""


async def test_failure_after_the_head_cuts_the_answer_off(serving):
    async def app(exchange):
        await exchange.start(200, PLAIN)
        await exchange.send(b"half")

    async with serving(app) as (connect, _):
        stream = await connect()
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        data = await read_all(stream)
        assert b"half" in data
        assert not data.endswith(b"0\r\n\r\n")


HOP_BY_HOP = (b"Connection", b"keep-alive", b"proxy-connection", b"TE", b"trailer", b"Transfer-Encoding", b"upgrade")


@pytest.mark.parametrize("streamed", [False, True])
async def test_headers_of_the_connection_are_not_the_scripts_to_set(serving, streamed):
    headers = [*((name, b"close, x") for name in HOP_BY_HOP), (b"x-y", b"z"), (b"content-length", b"2")]

    async def app(exchange):
        if streamed:
            await exchange.start(200, headers)
            await exchange.send(b"ok")
            await exchange.end()
        else:
            await exchange.respond(200, headers, b"ok")

    async with serving(app) as (connect, _):
        stream = await connect()
        for _ in range(2):
            await stream.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            received = (await read_until(stream, b"\r\n\r\nok")).lower()
            assert b"\r\nx-y: z\r\n" in received
            assert not [name for name in HOP_BY_HOP if b"\n" + name.lower() + b":" in received]


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (b"X: y\r\n" * 1000, b"431"),
        (b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 7\r\n", b"400"),
    ],
)
async def test_head_that_is_refused_ends_its_connection(serving, lines, status):
    async with serving(respond_with(b"hi")) as (connect, server):
        stream = await connect()
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n" + lines + b"\r\n")
        with trio.fail_after(PATIENCE_S):
            assert (await read_all(stream)).startswith(b"HTTP/1.1 " + status)
            await stream.aclose()
            await server.connections.wait_empty()


async def test_upgrade_request_reaches_the_handler_as_a_request(serving):
    async def app(exchange):
        assert dict(exchange.headers)[b"upgrade"] == b"websocket"
        await exchange.respond(426, [(b"content-length", b"2")], b"no")

    request = (
        b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    async with serving(app) as (connect, _):
        stream = await connect()
        await stream.send_all(request)
        assert (await read_until(stream, b"no")).startswith(b"HTTP/1.1 426")


async def test_reset_by_the_client_leaves_nothing_behind(serving):
    async with serving(respond_with(b"x" * 100_000)) as (connect, server):
        stream = await connect()
        linger = bytes([1, 0, 0, 0, 0, 0, 0, 0])
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        stream.socket.close()
        with trio.fail_after(PATIENCE_S):
            while len(server.connections):
                await trio.sleep(0.01)
