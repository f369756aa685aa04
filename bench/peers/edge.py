"""This runtime, under the same loads as its peers."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

from bench.peers.http_load import requests
from bench.peers.row import BUSY_OBJECT, HELLO, ONE_OBJECT, STEPS_ALONE, STEPS_TOGETHER, Row, System, measure
from bench.peers.started import Started, free_port, started
from bench.processes import HERE

SYSTEM = System(
    "edge",
    version("edge-runtime"),
    "LMDB: one fdatasync and one synced meta page a commit, before the answer; commits are shared",
)


def rows(scale: float = 1.0) -> Iterator[Row]:
    with _served("hello_trio") as (server, port):
        drive = requests(port, "GET", "/", count=int(4000 * scale), clients=8)
        yield measure(SYSTEM, [server], HELLO, drive)
    with _served("objects") as (server, port):
        for workload, count, clients in ((ONE_OBJECT, 400, 1), (BUSY_OBJECT, 3200, 32)):
            drive = requests(port, "GET", "/increment?n=1", count=int(count * scale), clients=clients)
            yield measure(SYSTEM, [server], workload, drive)
    with _served("workflows") as (server, port):
        for workload, count, together in ((STEPS_ALONE, 100, 1), (STEPS_TOGETHER, 10, 50)):
            path = f"/steps?n={together}&steps=10"
            drive = requests(port, "GET", path, count=int(count * scale), clients=1, operations=10 * together)
            yield measure(SYSTEM, [server], workload, drive)


@contextmanager
def _served(worker: str) -> Iterator[tuple[Started, int]]:
    port = free_port()
    with tempfile.TemporaryDirectory() as data:
        command = [sys.executable, "-m", "edge_runtime", "dev", HERE / "workers" / worker, "--port", port]
        with started([*command, "--data", data, "--quiet", "--no-reload"]) as server:
            server.wait_answering(port)
            yield server, port
