"""What does a request over HTTP/1.1 cost the server, from socket to socket?"""

from __future__ import annotations

from collections.abc import Iterator

from bench.figure import Figure
from bench.load import alternating, cpu_us_per_request
from bench.processes import HERE, edge_dev

CONNECTIONS = 32
REQUESTS = 6400


def run() -> Iterator[Figure]:
    with (
        edge_dev(HERE / "workers/hello_trio") as on_trio,
        edge_dev(HERE / "workers/hello_asyncio") as on_asyncio,
        edge_dev(HERE / "workers/objects") as objects,
    ):
        trio_us, asyncio_us, one_us, counter_us = alternating(
            5,
            lambda: cpu_us_per_request(on_trio, "/", REQUESTS, CONNECTIONS),
            lambda: cpu_us_per_request(on_asyncio, "/", REQUESTS, CONNECTIONS),
            lambda: cpu_us_per_request(on_trio, "/", REQUESTS, 1),
            lambda: cpu_us_per_request(objects, "/increment?n=1", REQUESTS, CONNECTIONS),
        )
    yield Figure("hello, 32 connections, CPU per request", trio_us, "us", bound=75)
    yield Figure("the same, asyncio flavour above trio flavour", asyncio_us - trio_us, "us", bound=15)
    yield Figure("hello, 1 connection, CPU per request", one_us, "us", bound=110)
    yield Figure("durable counter, 1 object, 32 connections, CPU per request", counter_us, "us", bound=170)
