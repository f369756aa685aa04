"""This runtime, under the same loads as its peers."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version

from bench.peers import row
from bench.peers.http_load import requests
from bench.processes import HERE, edge_dev

SYSTEM = row.System(
    "edge",
    version("edge-runtime"),
    "synced before the answer: LMDB, fdatasync and a meta page with O_DSYNC a commit; what waits shares one",
)


def rows(scale: float = 1.0) -> Iterator[row.Row]:
    with edge_dev(HERE / "workers/hello_trio") as server:
        drive = requests(server.port, "GET", "/", count=int(4000 * scale), clients=8)
        yield row.measure(SYSTEM, [server], row.HELLO, drive)
    with edge_dev(HERE / "workers/objects") as server:
        for workload, count, clients in ((row.ONE_OBJECT, 400, 1), (row.BUSY_OBJECT, 3200, 32)):
            drive = requests(server.port, "GET", "/increment?n=1", count=int(count * scale), clients=clients)
            yield row.measure(SYSTEM, [server], workload, drive)
    with edge_dev(HERE / "workers/workflows") as server:
        for workload, count, together in ((row.STEPS_ALONE, 100, 1), (row.STEPS_TOGETHER, 10, row.TOGETHER)):
            path = f"/steps?n={together}&steps={row.STEPS}"
            load = int(count * scale)
            drive = requests(server.port, "GET", path, count=load, clients=1, operations=row.STEPS * together)
            yield row.measure(SYSTEM, [server], workload, drive)
