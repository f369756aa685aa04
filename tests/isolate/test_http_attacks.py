"""The public list of attacks on HTTP/1 servers, over real sockets, on both implementations.

Every hostile request has a second one behind it, which a server that is deceived about where the first ends would
serve. Sources: RFC 9112 (security considerations), the request smuggling corpora of PortSwigger and narfindustries.
"""

from __future__ import annotations

import gzip
import re
import socket
import struct

import h2.connection
import pytest
import trio
import trio.testing
from edge_process import PATIENCE_S
from http_server import read_all, read_until

from edge_runtime.isolate.handlers.incoming import BadRequest, incoming_request
from edge_runtime.isolate.http.exchange import BodyTimeout, BodyTooLarge

HOST = b"Host: a\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
GET = b"GET /first HTTP/1.1\r\n"
POST = b"POST /first HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def get(*lines):
    return GET + HOST + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def post(*lines, body=b"hello"):
    return POST + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


ATTACKS = {
    "line: HTTP/0.9": b"GET /first\r\n\r\n",
    "line: two spaces": b"GET  /first HTTP/1.1\r\n" + HOST + b"\r\n",
    "line: tab": b"GET\t/first\tHTTP/1.1\r\n" + HOST + b"\r\n",
    "line: space behind": b"GET /first HTTP/1.1 \r\n" + HOST + b"\r\n",
    "line: space in the target": b"GET /fir st HTTP/1.1\r\n" + HOST + b"\r\n",
    "line: NUL": b"GET /first\x00 HTTP/1.1\r\n" + HOST + b"\r\n",
    "line: bare CR": b"GET /first\rX: HTTP/1.1\r\n" + HOST + b"\r\n",
    "line: version of another protocol": b"GET /first ICY/1.1\r\n" + HOST + b"\r\n",
    "line: version 2.0": b"GET /first HTTP/2.0\r\n" + HOST + b"\r\n",
    "line: version with many digits": b"GET /first HTTP/1.11\r\n" + HOST + b"\r\n",
    "line: lower case version": b"GET /first http/1.1\r\n" + HOST + b"\r\n",
    "line: CONNECT": b"CONNECT a:22 HTTP/1.1\r\n" + HOST + b"\r\n",
    "header: space before the colon": get(b"X-A : b"),
    "header: length with a space before the colon": post(b"Content-Length : 5"),
    "header: coding with a tab before the colon": post(b"Transfer-Encoding\t: chunked", body=END),
    "header: folded": get(b"X-A: b", b" c: d"),
    "header: folded with a tab": get(b"X-A: b", b"\tc"),
    "header: folded coding": post(b"Transfer-Encoding:", b" chunked", body=END),
    "header: first line folded": GET + b" X-A: b\r\n" + HOST + b"\r\n",
    "header: no name": get(b": b"),
    "header: no colon": get(b"X-A"),
    "header: NUL in the value": get(b"X-A: b\x00c"),
    "header: NUL in the name": get(b"X\x00A: b"),
    "header: bare CR in the value": get(b"X-A: b\rTransfer-Encoding: chunked"),
    "header: name with a delimiter": get(b"X(A): b"),
    "header: control character": get(b"X-A: \x01"),
    "length: plus": post(b"Content-Length: +5"),
    "length: minus": post(b"Content-Length: -5"),
    "length: hexadecimal": post(b"Content-Length: 0x5"),
    "length: fraction": post(b"Content-Length: 5.0"),
    "length: two words": post(b"Content-Length: 5 5"),
    "length: empty": post(b"Content-Length: "),
    "length: other digits": post(b"Content-Length: \xd9\xa5"),
    "length: a list that differs": post(b"Content-Length: 5, 6"),
    "length: repeated and different": post(b"Content-Length: 5", b"Content-Length: 6"),
    "length: beyond every number": post(b"Content-Length: " + b"9" * 40),
    "length: wraps 64 bits": post(b"Content-Length: 18446744073709551621"),
    "both: length first": post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=END),
    "both: coding first": post(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=END),
    "both: length of the chunks": post(b"Transfer-Encoding: chunked", b"Content-Length: 0", body=END),
    "coding: unknown": post(b"Transfer-Encoding: xchunked", body=END),
    "coding: identity": post(b"Transfer-Encoding: identity", b"Content-Length: 5"),
    "coding: chunked twice": post(b"Transfer-Encoding: chunked, chunked", body=END),
    "coding: repeated": post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: x", body=END),
    "coding: chunked is not last": post(b"Transfer-Encoding: chunked, gzip", body=END),
    "coding: vertical tab": post(b"Transfer-Encoding: \x0bchunked", body=END),
    "coding: quoted": post(b'Transfer-Encoding: "chunked"', body=END),
    "coding: with a parameter": post(b"Transfer-Encoding: chunked;q=1", body=END),
    "chunk: no number": CHUNKED + b"zz\r\nhello\r\n" + END,
    "chunk: minus": CHUNKED + b"-5\r\nhello\r\n" + END,
    "chunk: plus": CHUNKED + b"+5\r\nhello\r\n" + END,
    "chunk: 0x": CHUNKED + b"0x5\r\nhello\r\n" + END,
    "chunk: space before": CHUNKED + b" 5\r\nhello\r\n" + END,
    "chunk: wraps 64 bits": CHUNKED + b"10000000000000005\r\nhello\r\n" + END,
    "chunk: longer than it says": CHUNKED + b"3\r\nhello\r\n" + END,
    "chunk: no size": CHUNKED + b"\r\nhello\r\n" + END,
    "chunk: end of line missing": CHUNKED + b"5\r\nhello" + END,
    "host: none": GET + b"\r\n",
    "host: two": get(b"Host: b"),
    "host: empty": GET + b"Host:\r\n\r\n",
    "host: with a space": GET + b"Host: a b\r\n\r\n",
    "host: with a path": GET + b"Host: a/b\r\n\r\n",
    "host: with a user": GET + b"Host: a@b\r\n\r\n",
    "host: with a quote": GET + b'Host: a"b\r\n\r\n',
    "size: URL of 64 kB": b"GET /" + b"a" * 65536 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    "size: header of 200 kB": get(b"X-A: " + b"b" * 200_000),
    "size: 100,000 headers": GET + HOST + b"a: b\r\n" * 100_000 + b"\r\n",
    "size: a name of 200 kB": get(b"a" * 200_000 + b": b"),
    "size: 10 GB declared": post(b"Content-Length: 10000000000"),
    "size: line that does not end": b"GET /" + b"a" * 300_000,
    "size: method that does not end": b"A" * 300_000,
    "other: SSH": b"SSH-2.0-OpenSSH_9.7\r\n",
    "other: PROXY": b"PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n" + GET + HOST + b"\r\n",
    "other: SOCKS": b"\x05\x01\x00\r\n\r\n",
    "other: TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200)),
    "other: WebSocket frames": b"\x81\x85\x01\x02\x03\x04hello\r\n\r\n",
    "other: HTTP/2 and garbage": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 200,
    "other: HTTP/2 settings of 16 MB": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\x04\x00\x00\x00\x00\x00"
    + bytes(99),
}

HYPERCORN_SERVES = {
    "line: version 2.0": "h11 reads any digits and answers as HTTP/1.1, which a client of 2.0 expects least of all",
    "header: folded": "h11 joins the lines, as RFC 9112 (5.2) allows",
    "header: folded with a tab": "the same",
    "header: folded coding": "the same, and then reads chunks",
    "header: control character": "h11 refuses NUL, CR and LF only; what remains is harmless in a list of headers",
}


class Application:
    """Answers what `FetchHandler` would let a handler see, with the body's length."""

    def __init__(self):
        self.served = []

    async def __call__(self, exchange):
        try:
            request = incoming_request(exchange)
        except BadRequest as refusal:
            await self.respond(exchange, refusal.status, str(refusal).encode(), close=True)
            return
        length = 0
        try:
            while (piece := await exchange.receive()) is not None:
                length += len(piece)
        except BodyTooLarge:
            await self.respond(exchange, 413, b"too large", close=True)
        except BodyTimeout:
            await self.respond(exchange, 408, b"too slow", close=True)
        else:
            self.served.append(request.url)
            await self.respond(exchange, 200, b"%d" % length)

    async def respond(self, exchange, status, body, *, close=False):
        await exchange.respond(status, [(b"content-length", b"%d" % len(body))], body, close=close)


async def send_as_far_as_it_goes(stream, data):
    try:
        await stream.send_all(data)
        await stream.send_eof()
    except trio.BrokenResourceError:
        pass  # cut off while sending


async def read_as_far_as_it_goes(stream):
    data = b""
    try:
        while piece := await stream.receive_some(65536):
            data += piece
    except trio.BrokenResourceError:
        pass  # reset: it had sent more than was read
    return data


async def serves_others(connect):
    good = await connect()
    await good.send_all(b"GET /good HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    return (await read_all(good)).endswith(b"\r\n\r\n0")


@pytest.mark.parametrize("name", ATTACKS)
async def test_attack_is_refused_and_what_is_behind_it_not_served(serving, name):
    application = Application()
    async with serving(application) as (connect, server):
        with trio.fail_after(PATIENCE_S):
            answer = await attack(connect, ATTACKS[name] + SMUGGLED)
            statuses = re.findall(rb"^HTTP/1.1 (\d\d\d) ", answer, re.MULTILINE)
            if serving.args == ("hypercorn",) and name in HYPERCORN_SERVES:
                assert application.served == ["http://a/first", "http://a/smuggled"]
            else:
                assert application.served == []
                assert len(statuses) <= 1, answer[:200]
                assert not statuses or statuses[0] >= b"400", answer[:200]
            assert await serves_others(connect)
            await server.connections.wait_empty()


async def attack(connect, data):
    """Send all of it, then nothing more; what was answered."""
    stream = await connect()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_as_far_as_it_goes, stream, data)
        answer = await read_as_far_as_it_goes(stream)
    await stream.aclose()
    return answer


async def test_body_of_a_byte_a_second_is_given_up(serving, set_limit):
    set_limit("REQUEST_BODY_WINDOW_S", 0.05)
    async with serving(Application()) as (connect, server):
        stream = await connect()
        await stream.send_all(POST + b"Content-Length: 1000000\r\n\r\nx")
        with trio.fail_after(PATIENCE_S):
            assert (await read_until(stream, b"\r\n\r\n")).startswith(b"HTTP/1.1 408")
            await server.connections.wait_empty()


async def test_compressed_body_arrives_as_it_is(serving):
    bomb = gzip.compress(bytes(10_000_000))
    async with serving(Application()) as (connect, _):
        stream = await connect()
        await stream.send_all(POST + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb) + bomb)
        assert (await read_until(stream, b"\r\n\r\n%d" % len(bomb))).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"G",
        b"GET /first HT",
        GET + b"Host: ",
        get(),
        get() * 20,
        POST + b"Content-Length: 10\r\n\r\nabc",
        CHUNKED + b"5\r\nhe",
        CHUNKED + b"5\r\nhello\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        get(b"Connection: Upgrade", b"Upgrade: websocket"),
    ],
)
async def test_reset_at_each_stage_leaves_nothing_behind(serving, sent):
    async with serving(Application()) as (connect, server):
        stream = await connect()
        await stream.send_all(sent)
        await trio.testing.wait_all_tasks_blocked()
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await stream.aclose()
        with trio.fail_after(PATIENCE_S):
            assert await serves_others(connect)
            await server.connections.wait_empty()


async def test_client_that_ends_its_side_after_the_request_gets_its_answer_or_the_end(serving):
    async with serving(Application()) as (connect, server):
        for data in (get(), post(b"Content-Length: 5"), CHUNKED + b"5\r\nhello\r\n" + END):
            with trio.fail_after(PATIENCE_S):
                answer = await attack(connect, data)
                # Hypercorn takes the end of one side for the end of both.
                assert answer.startswith(b"HTTP/1.1 200") or (serving.args == ("hypercorn",) and not answer)
                await server.connections.wait_empty()


async def test_flood_of_pipelined_requests_does_not_keep_others_waiting(serving):
    application = Application()
    async with serving(application) as (connect, server):
        flooding = await connect()
        over = trio.Event()

        async def flood():
            try:
                while True:
                    await flooding.send_all(get() * 100)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                over.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(flood)
            with trio.fail_after(PATIENCE_S):
                for _ in range(5):
                    assert await serves_others(connect)
            nursery.start_soon(flooding.aclose)
            with trio.fail_after(PATIENCE_S):
                await over.wait()
                await server.connections.wait_empty()


async def test_streams_that_http2_resets_at_once_leave_no_handler_behind(serving):
    running = 0

    async def app(exchange):
        nonlocal running
        running += 1
        try:
            await trio.sleep_forever()
        finally:
            running -= 1

    client = h2.connection.H2Connection()
    client.initiate_connection()
    for stream_id in range(1, 200, 2):
        headers = [(":method", "GET"), (":path", "/"), (":scheme", "http"), (":authority", "a")]
        client.send_headers(stream_id, headers, end_stream=True)
        client.reset_stream(stream_id)
    async with serving(app) as (connect, server):
        stream = await connect()
        await stream.send_all(client.data_to_send())
        with trio.fail_after(PATIENCE_S):
            await stream.send_eof()
            await read_as_far_as_it_goes(stream)
            await stream.aclose()
            await server.connections.wait_empty()
    assert not running
