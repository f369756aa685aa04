"""Load on loopback: keep-alive connections, one request at a time on each."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from bench.processes import Server


def send_requests(port: int, path: str, count: int, connections: int) -> None:
    """Send `count` GETs over `connections`; RuntimeError at the first answer that is not 200."""
    each = count // connections
    with ThreadPoolExecutor(connections) as pool:
        for future in [pool.submit(_send, port, path, each) for _ in range(connections)]:
            future.result()


def _send(port: int, path: str, count: int) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(count):
            client.sendall(request)
            data = client.recv(65536)
            while not _complete(data):
                piece = client.recv(65536)
                if not piece:
                    raise RuntimeError(f"GET {path}: the server closed the connection after {data!r}")
                data += piece
            if not data.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"GET {path} was answered {data[:200]!r}")


def _complete(data: bytes) -> bool:
    head, end, body = data.partition(b"\r\n\r\n")
    if not end:
        return False
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(body) >= int(line[15:])
    return body.endswith(b"0\r\n\r\n")


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
