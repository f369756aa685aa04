"""How the HTTP/1.1 loop frames answers: lengths, chunks, streams, headers."""

import pytest
import trio
import trio.testing
from http1_clients import GET, GET_1_0, answered, clients_of, head_and_body, responding, streaming
from http_server import read_all

from edge_runtime.isolate.http.exchange import WrongBodyLength


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
