"""Load over HTTP for systems that speak it, and the drives that make rows of it."""

from __future__ import annotations

import http.client
import time
import uuid

from bench.load import exchange, request
from bench.peers.row import Drive

NEW = "NEW"
"""In a target: an id that no request has had."""


def requests(port: int, method: str, target: str, *, count: int, clients: int, operations: int = 1) -> Drive:
    """`count` requests over `clients` kept connections, each worth `operations`."""
    before_id, has_id, after_id = target.partition(NEW)

    def make() -> bytes:
        return request(method, before_id + uuid.uuid4().hex + after_id if has_id else target)

    def drive(share: int) -> tuple[int, list[float], float]:
        begun = time.perf_counter()
        waited_ms = exchange(port, make, max(clients, count * share // 100), clients)
        return len(waited_ms) * operations, waited_ms, time.perf_counter() - begun

    return drive


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
