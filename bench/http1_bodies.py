"""What do large bodies cost over HTTP/1.1, against hypercorn in the same place?"""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.figure import Figure
from bench.load import alternating
from bench.processes import HERE, Server, edge_dev

SIZE = 1_000_000
REQUESTS = 100
CONFIG = '{"name": "bodies", "main": "entry.py", "compatibility_date": "2026-05-01", "edge": {"http1": "%s"}}'


@contextmanager
def serving(http1: str) -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "wrangler.jsonc").write_text(CONFIG % http1)
        Path(folder, "entry.py").write_text((HERE / "workers/bodies/entry.py").read_text())
        with edge_dev(Path(folder)) as started:
            yield started


def run() -> Iterator[Figure]:
    with serving("llhttp") as ours, serving("hypercorn") as hypercorn:
        in_us, in_theirs_us, out_us, out_theirs_us = alternating(
            5, lambda: upload_us(ours), lambda: upload_us(hypercorn), lambda: download_us(ours),
            lambda: download_us(hypercorn),
        )  # fmt: skip
    for what, value, reference in (("in", in_us, in_theirs_us), ("out", out_us, out_theirs_us)):
        yield Figure(f"1 MB {what}, hypercorn, CPU per request", reference, "us")
        yield Figure(f"1 MB {what}, CPU per request", value, "us")
        yield Figure(f"1 MB {what} against hypercorn", value / reference, "x", bound=1.0)


def upload_us(server: Server) -> float:
    request = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % SIZE + b"x" * SIZE
    return _cpu_us(server, request, b"\r\n\r\n%d" % SIZE)


def download_us(server: Server) -> float:
    return _cpu_us(server, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"x" * 100 + b"end")


def _cpu_us(server: Server, request: bytes, end: bytes) -> float:
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        for count in (REQUESTS // 10, REQUESTS):
            before = server.cpu_us()
            for _ in range(count):
                client.sendall(request)
                tail = b""
                while not tail.endswith(end):
                    piece = client.recv(1 << 20)
                    if not piece:
                        raise RuntimeError(f"the server closed the connection after {tail[-200:]!r}")
                    tail = (tail + piece)[-4096:]
        return (server.cpu_us() - before) / REQUESTS
