"""What do 10,000 idle keep-alive connections take of an isolate, and what do they cost the active ones?"""

from __future__ import annotations

import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bench.figure import Figure
from bench.instructions import isolate_of
from bench.load import alternating, cpu_us_per_request
from bench.processes import HERE, Server, edge_dev, private_mb

IDLE = 10_000
BATCH = 100
REQUESTS = 6400
CONNECTIONS = 32
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def run() -> Iterator[Figure]:
    with (
        _as_many_files_as_possible(),
        edge_dev(HERE / "workers/hello_trio") as quiet,
        edge_dev(HERE / "workers/hello_trio") as crowded,
        ExitStack() as stack,
    ):
        for server in (quiet, crowded):
            cpu_us_per_request(server, "/", REQUESTS, CONNECTIONS)
        isolate = isolate_of(crowded)
        before_mb = private_mb(isolate)
        for start in range(0, IDLE, BATCH):
            clients = [stack.enter_context(_connected(crowded)) for _ in range(start, start + BATCH)]
            for client in clients:
                client.sendall(REQUEST)
            for client in clients:
                assert client.recv(4096).startswith(b"HTTP/1.1 200")
        idle_kb = (private_mb(isolate) - before_mb) * 1024 / IDLE
        quiet_us, crowded_us = alternating(
            5,
            lambda: cpu_us_per_request(quiet, "/", REQUESTS, CONNECTIONS),
            lambda: cpu_us_per_request(crowded, "/", REQUESTS, CONNECTIONS),
        )
    yield Figure("an idle keep-alive connection among 10,000, memory of the isolate", idle_kb, "kB", bound=8)
    yield Figure("hello beside 10,000 idle connections against none", crowded_us / quiet_us, "x", bound=1.2)


@contextmanager
def _as_many_files_as_possible() -> Iterator[None]:
    usual = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (usual[1], usual[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, usual)


def _connected(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=60)
