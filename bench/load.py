"""Load on loopback: keep-alive connections, one request at a time on each, all of them driven by one loop.

The loop takes a small part of the server's time for a request, so that as many requests as there are connections wait
for the server nearly always.
"""

from __future__ import annotations

import re
import select
import socket
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack

from bench.processes import Server

_ANSWER_S = 120.0
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_LAST_CHUNK = b"0\r\n\r\n"


def request(method: str, target: str, body: bytes = b"") -> bytes:
    """The bytes of a request; a body is JSON."""
    fields = b"content-type: application/json\r\n" if body else b""
    length = b"" if method == "GET" else b"content-length: %d\r\n" % len(body)
    return b"%s %s HTTP/1.1\r\nhost: localhost\r\n%s%s\r\n%s" % (method.encode(), target.encode(), fields, length, body)


def send_requests(port: int, path: str, count: int, connections: int) -> None:
    """Send `count` GETs over `connections`; RuntimeError at the first answer that is not 200."""
    sent = request("GET", path)
    exchange(port, lambda: sent, count, connections)


def exchange(port: int, make: Callable[[], bytes], count: int, connections: int) -> list[float]:
    """Send `count` requests, each made by `make()`; returns what was waited for each answer, in ms.

    Each connection sends the next as soon as it has its answer, until `count` are sent. RuntimeError at the first
    answer that is not 200, and when none comes for two minutes.
    """
    waited_ms: list[float] = []
    with ExitStack() as stack:
        poll = stack.enter_context(select.epoll())
        clients: dict[int, socket.socket] = {}
        for _ in range(min(connections, count)):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), _ANSWER_S))
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            clients[client.fileno()] = client
            poll.register(client, select.EPOLLIN)
        unsent = count - len(clients)
        received = dict.fromkeys(clients, b"")
        sent_s: dict[int, float] = {}
        for number, client in clients.items():
            sent_s[number] = time.perf_counter()
            client.sendall(make())
        while len(waited_ms) < count:
            ready = poll.poll(_ANSWER_S)
            if not ready:
                raise RuntimeError(f"no answer for {_ANSWER_S:.0f} s; {len(waited_ms)} of {count} have come")
            for number, _ in ready:
                client = clients[number]
                piece = client.recv(65536)
                data = received[number] + piece
                if not piece:
                    raise RuntimeError(f"the server closed the connection after {data[-200:]!r}")
                if not _complete(data):
                    received[number] = data
                    continue
                if not data.startswith(b"HTTP/1.1 200"):
                    raise RuntimeError(f"{make()[:200]!r} was answered {data[:400]!r}")
                now_s = time.perf_counter()
                waited_ms.append((now_s - sent_s[number]) * 1000)
                received[number] = b""
                if unsent:
                    unsent -= 1
                    sent_s[number] = now_s
                    client.sendall(make())
    return waited_ms


def _complete(data: bytes) -> bool:
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return False
    if length := _LENGTH.search(data, 0, end):
        return len(data) >= end + 4 + int(length[1])
    if _CHUNKED.search(data, 0, end):
        return data.endswith(_LAST_CHUNK)
    raise RuntimeError(f"an answer without a length: {data[:400]!r}")


def cpu_us_per_request(server: Server, path: str = "/", count: int = 4000, connections: int = 8) -> float:
    """CPU time of the server for one request, in microseconds, after a tenth of the load as warm-up."""
    send_requests(server.port, path, max(connections, count // 10), connections)
    before = server.cpu_us()
    send_requests(server.port, path, count, connections)
    return (server.cpu_us() - before) / count


def alternating(rounds: int, *measure: Callable[[], float]) -> list[float]:
    """The median of each measurement over `rounds` in which all take turns."""
    results: list[list[float]] = [[] for _ in measure]
    for _ in range(rounds):
        for take, into in zip(measure, results, strict=True):
            into.append(take())
            print(f"  {time.strftime('%H:%M:%S')} {into[-1]:.1f}", file=sys.stderr)
    return [sorted(values)[len(values) // 2] for values in results]
