"""Both HTTP implementations on the same bytes: the same requests for the worker, equivalent answers.

The loop on llhttp takes each connection whole, split at every byte boundary and byte by byte; hypercorn, the reference,
whole and at some of the boundaries.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
import trio
from http_corpus import (
    CASES,
    CHUNKS,
    CHUNKS_BAD,
    CODINGS,
    HEADERS,
    HEADERS_BAD,
    LENGTHS,
    RIGHT,
    STRICTER,
    TARGETS,
    head,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_connections import MemoryClient

from edge_runtime.isolate.handlers.incoming import BadRequest, incoming_request
from edge_runtime.isolate.http.open_connections import OpenConnections
from edge_runtime.isolate.http1.server import Http1Server
from edge_runtime.isolate.hypercorn.server import HypercornServer
from edge_runtime.seams import SystemClock

EVERY_BOUNDARY_UP_TO = 1024
BOUNDARIES_OF_LARGE = 48
REFERENCE_EVERY = 16
HTTP2_SETTINGS = b"\x00\x00*\x04\x00"


class Echo:
    """An application that answers each request with its body, as `FetchHandler` does the refusing."""

    def __init__(self):
        self.requests = []
        self.methods = []

    async def __call__(self, exchange):
        self.methods.append(exchange.method)
        try:
            request = incoming_request(exchange)
        except BadRequest as refusal:
            await self._respond(exchange, refusal.status, str(refusal), close=True)
            return
        body = b""
        while (piece := await exchange.receive()) is not None:
            body += piece
        self.requests.append((exchange.method, request.url, sorted(exchange.headers), body))
        await self._respond(exchange, 200, f"{len(body)} bytes")

    async def _respond(self, exchange, status, text, *, close=False):
        headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(text)).encode())]
        await exchange.respond(status, headers, text.encode(), close=close)


def answers(received, methods):
    """The final answers in `received`: status, and body where it is the application's. Their framing must be right."""
    found = []
    rest = bytes(received)
    while rest:
        head, end, rest = rest.partition(b"\r\n\r\n")
        assert end, f"a cut head: {head!r}"
        line, *lines = head.split(b"\r\n")
        status = int(line.split(b" ", 2)[1])
        headers = [tuple(header.lower().split(b": ", 1)) for header in lines]
        assert all(len(header) == 2 for header in headers)
        if status < 200:
            continue
        lengths = [value for name, value in headers if name == b"content-length"]
        assert len(lengths) == 1
        method = methods[len(found)] if len(found) < len(methods) else ""
        length = 0 if method == "HEAD" else int(lengths[0])
        body, rest = rest[:length], rest[length:]
        assert len(body) == length
        found.append((status, body))
    return found


async def seen(implementation, pieces):
    """What the worker sees of a connection, and what the client gets."""
    echo, connections = Echo(), OpenConnections()
    hypercorn = HypercornServer(echo, connections)
    client = MemoryClient(pieces)
    if implementation == "llhttp":
        await Http1Server(echo, connections, hypercorn, SystemClock()).serve(client)
    else:
        await hypercorn.serve(client.stream())
    assert not len(connections)
    if HTTP2_SETTINGS in client.received:
        return echo.requests, "HTTP/2"
    return echo.requests, answers(client.received, echo.methods)


def equivalent(result):
    """What must be the same. How a connection that cannot go on is refused is not: hypercorn may just close it."""
    requests, answered = result
    return requests, answered if answered == "HTTP/2" else [body for status, body in answered if status == 200]


def splits(data, every=1):
    """The data in two pieces, at each boundary; large data at some of them."""
    if len(data) > EVERY_BOUNDARY_UP_TO:
        every *= -(-len(data) // BOUNDARIES_OF_LARGE)
    return [(data[:at], data[at:]) for at in range(1, len(data), every)]


def reason(name, reasons):
    return next((text for prefix, text in reasons.items() if name.startswith(prefix)), None)


def test_corpus_is_large():
    assert len(CASES) >= 300


@pytest.mark.parametrize("family", sorted({name.partition(":")[0] for name in CASES}))
async def test_worker_and_client_see_the_same_wherever_the_bytes_are_split(family):
    for name, data in CASES.items():
        if name.partition(":")[0] != family:
            continue
        whole = await seen("llhttp", [data])
        for pieces in splits(data):
            assert await seen("llhttp", pieces) == whole, (name, pieces)
        if len(data) <= EVERY_BOUNDARY_UP_TO:
            assert await seen("llhttp", [bytes([byte]) for byte in data]) == whole, name


@pytest.mark.parametrize("family", sorted({name.partition(":")[0] for name in CASES}))
async def test_both_implementations_agree_or_the_difference_has_a_reason(family):
    for name, data in CASES.items():
        if name.partition(":")[0] != family:
            continue
        ours = equivalent(await seen("llhttp", [data]))
        theirs = equivalent(await seen("hypercorn", [data]))
        for pieces in splits(data, REFERENCE_EVERY):
            assert (await seen("hypercorn", pieces))[0] == theirs[0], (name, pieces)
        fewer = len(ours[0]) < len(theirs[0]) and ours[0] == theirs[0][: len(ours[0])]
        if fewer or theirs[1] == "HTTP/2" != ours[1]:
            assert reason(name, STRICTER), (name, ours, theirs)
        elif ours != theirs:
            assert reason(name, RIGHT), (name, ours, theirs)


async def test_every_written_reason_is_needed():
    for text in [*STRICTER, *RIGHT]:
        differing = False
        for name, data in CASES.items():
            if name.startswith(text):
                differing |= equivalent(await seen("llhttp", [data])) != equivalent(await seen("hypercorn", [data]))
        assert differing, text


LINES = st.builds(
    b"%b %b %b".__mod__,
    st.tuples(
        st.sampled_from([b"GET", b"POST", b"HEAD", b"OPTIONS", b"BREW"]),
        st.sampled_from([target for target in TARGETS if target.startswith(b"/") and target != b"/?"]),
        st.sampled_from([b"HTTP/1.1"] * 9 + [b"HTTP/1.0", b"HTTP/1.2"]),
    ),
)
FIELDS = st.lists(
    st.sampled_from([*HEADERS, *HEADERS_BAD[:6], b"Connection: close", b"Expect: 100-continue"]), max_size=4
)
BODIES = st.one_of(
    st.just((b"", [])),
    st.binary(max_size=40).map(lambda body: (body, [b"Content-Length: %d" % len(body)])),
    st.sampled_from(list(CHUNKS.values())).map(lambda body: (body, [b"Transfer-Encoding: chunked"])),
    st.sampled_from(list(CHUNKS_BAD.values())).map(lambda body: (body, [b"Transfer-Encoding: chunked"])),
    st.tuples(st.sampled_from(LENGTHS), st.sampled_from(CODINGS)).map(
        lambda value: (b"hello", [b"Content-Length: " + value[0], b"Transfer-Encoding: " + value[1]])
    ),
)
MESSAGES = st.builds(lambda line, fields, body: head(line, *fields, *body[1]) + body[0], LINES, FIELDS, BODIES)
STREAMS = st.lists(MESSAGES, min_size=1, max_size=4).map(b"".join)
ODD_BYTES = st.sampled_from([bytes([byte]) for byte in b"\x00\t\n\r :;,/0a\x7f\xc3"])


def run(fn, *args):
    return trio.run(fn, *args)


def cut(data, places):
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(ends)]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(STREAMS, st.lists(st.integers(0, 10_000), max_size=8))
def test_worker_never_gets_of_a_stream_what_hypercorn_would_not_give_it(data, places):
    whole = run(seen, "llhttp", [data])
    assert run(seen, "llhttp", cut(data, places)) == whole
    reference, _ = run(seen, "hypercorn", [data])
    given = [(method, url, lowered(headers), body) for method, url, headers, body in whole[0]]
    assert given == [(method, url, lowered(headers), body) for method, url, headers, body in reference][: len(given)]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(STREAMS, st.lists(st.tuples(st.integers(0, 10_000), ODD_BYTES), max_size=3), st.lists(st.integers(0, 10_000)))
def test_bytes_that_were_changed_are_understood_alike_however_they_arrive(data, changes, places):
    for place, byte in changes:
        at = place % (len(data) + 1)
        data = data[:at] + byte + data[at + place % 2 :]
    assert run(seen, "llhttp", cut(data, places)) == run(seen, "llhttp", [data])


def lowered(headers):
    return [(name, value.lower() if name == b"transfer-encoding" else value) for name, value in headers]
