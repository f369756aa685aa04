"""Load over HTTP for systems that speak it, and the drives that make rows of it."""

from __future__ import annotations

import http.client
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

from bench.peers.row import Drive

NEW = "NEW"
"""In a target: an id that no request has had."""


def requests(port: int, method: str, target: str, *, count: int, clients: int, operations: int = 1) -> Drive:
    """`count` requests over `clients` kept connections, each worth `operations`."""

    def drive(share: int) -> tuple[int, list[float], float]:
        each = max(1, count * share // 100 // clients)
        begun = time.perf_counter()
        with ThreadPoolExecutor(clients) as pool:
            parts = [pool.submit(_client, port, method, target, each) for _ in range(clients)]
            waited_ms = [ms for part in parts for ms in part.result()]
        return len(waited_ms) * operations, waited_ms, time.perf_counter() - begun

    return drive


def call(port: int, method: str, target: str, body: bytes | None = None) -> bytes:
    """One request on a connection of its own; RuntimeError for answers of 400 and above."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        return _answer(connection, method, target, body)
    finally:
        connection.close()


def _client(port: int, method: str, target: str, count: int) -> list[float]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    waited_ms = []
    try:
        for _ in range(count):
            begun = time.perf_counter()
            _answer(connection, method, target.replace(NEW, uuid.uuid4().hex))
            waited_ms.append((time.perf_counter() - begun) * 1000)
    finally:
        connection.close()
    return waited_ms


def _answer(connection: http.client.HTTPConnection, method: str, target: str, body: bytes | None = None) -> bytes:
    connection.request(method, target, body, {"content-type": "application/json"} if body else {})
    answer = connection.getresponse()
    content = answer.read()
    if answer.status >= 400:
        raise RuntimeError(f"{method} {target} was answered with {answer.status}: {content[:300]!r}")
    return content
