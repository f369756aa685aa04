"""miniflare on workerd: Cloudflare's own runtime with its local simulator, everything on disk.

It is a development tool: a router worker stands before the user's, and its workflow figures do not stand for
Cloudflare's service.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

from bench.peers import row
from bench.peers.http_load import requests
from bench.peers.install import node_packages, node_version
from bench.peers.started import free_port, started
from bench.processes import HERE

NAME = "miniflare + workerd"


def rows(scale: float = 1.0) -> Iterator[row.Row]:
    # miniflare wants a newer Node than many systems have; the package "node" brings one.
    home = node_packages("miniflare", "node@22", "miniflare@4")
    versions = f"{node_version(home, 'miniflare')}, workerd {node_version(home, 'workerd')}"
    system = row.System(NAME, versions, "synced before the answer: SQLite in workerd, each write alone")
    port = free_port()
    with tempfile.TemporaryDirectory() as state:
        command = [home / "node_modules/.bin/node", HERE / "peers/apps/miniflare_server.mjs", state, port]
        with started(command, env={"PEER_HOME": str(home)}) as server:
            server.hear()
            drive = requests(port, "GET", "/hello", count=int(4000 * scale), clients=8)
            yield row.measure(system, [server], row.HELLO, drive)
            for workload, count, clients in ((row.ONE_OBJECT, 400, 1), (row.BUSY_OBJECT, 1600, 32)):
                drive = requests(port, "GET", "/increment", count=int(count * scale), clients=clients)
                yield row.measure(system, [server], workload, drive)
            for workload, count, together in ((row.STEPS_ALONE, 20, 1), (row.STEPS_TOGETHER, 4, row.TOGETHER)):
                path, load = f"/steps?n={together}", int(count * scale)
                drive = requests(port, "GET", path, count=load, clients=1, operations=row.STEPS * together)
                yield row.measure(
                    system, [server], workload, drive, "the worker looks every 5 ms whether all have ended"
                )
