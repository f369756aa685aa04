"""What does a handler of asyncio's flavour cost above the same one on trio?"""

from __future__ import annotations

from collections.abc import Iterator

from bench.figure import Figure
from bench.load import alternating, cpu_us_per_request
from bench.processes import HERE, edge_dev


def run() -> Iterator[Figure]:
    with (
        edge_dev(HERE / "workers/hello_trio") as on_trio,
        edge_dev(HERE / "workers/hello_asyncio") as on_asyncio,
    ):
        trio_us, asyncio_us = alternating(
            5, lambda: cpu_us_per_request(on_trio), lambda: cpu_us_per_request(on_asyncio)
        )
    yield Figure("hello, asyncio flavour above trio flavour, CPU per request", asyncio_us - trio_us, "us", bound=100)
