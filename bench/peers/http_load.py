"""Load over HTTP for systems that speak it, and the drives that make rows of it."""

from __future__ import annotations

import http.client
import time
import uuid
from collections.abc import Callable

from bench.load import exchange, request
from bench.peers.row import Drive

NEW = "NEW"
"""In a target: an id that no request has had."""


def requests(port: int, method: str, target: str, *, count: int, clients: int, operations: int = 1) -> Drive:
    """`count` requests over `clients` kept connections, each worth `operations`."""
    make = _maker(method, target)

    def drive(share: int) -> tuple[int, list[float], float]:
        begun = time.perf_counter()
        waited_ms = exchange(port, make, max(clients, count * share // 100), clients)
        return len(waited_ms) * operations, waited_ms, time.perf_counter() - begun

    return drive


def rounds(port: int, method: str, target: str, *, count: int, together: int, operations: int) -> Drive:
    """`count` times `together` requests at once, each worth `operations`; the next when all are answered."""
    make = _maker(method, target)

    def drive(share: int) -> tuple[int, list[float], float]:
        waited_ms = []
        for _ in range(max(1, count * share // 100)):
            begun = time.perf_counter()
            exchange(port, make, together, together)
            waited_ms.append((time.perf_counter() - begun) * 1000)
        return len(waited_ms) * together * operations, waited_ms, sum(waited_ms) / 1000

    return drive


def _maker(method: str, target: str) -> Callable[[], bytes]:
    before_id, has_id, after_id = target.partition(NEW)
    return lambda: request(method, before_id + uuid.uuid4().hex + after_id if has_id else target)


def call(port: int, method: str, target: str, body: bytes | None = None) -> bytes:
    """One request on a connection of its own; RuntimeError for answers of 400 and above."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request(method, target, body, {"content-type": "application/json"} if body else {})
        answer = connection.getresponse()
        content = answer.read()
        if answer.status >= 400:
            raise RuntimeError(f"{method} {target} was answered with {answer.status}: {content[:300]!r}")
        return content
    finally:
        connection.close()
