"""What do the same requests, durable increments and durable steps cost here and in other systems, in one run?

Peers come from PyPI and npm (`bench.peers.install`); one that cannot be had here, or hangs, is reported as skipped.
Durability differs between systems: each row says what is behind an acknowledged write, and how often it was synced.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator

from bench.peers import edge, in_process, miniflare, restate
from bench.peers.install import NotInstallable
from bench.peers.row import Row, Skipped
from bench.time_limit import TimeOver, time_limit

_PEER_S = 600.0
"""Installing it included."""

Peer = Callable[[float], Iterator[Row]]

PEERS: dict[str, Peer] = {
    miniflare.NAME: miniflare.rows,
    restate.NAME: restate.rows,
    in_process.DBOS: in_process.dbos_rows,
    in_process.AWS: in_process.aws_rows,
}


def run(scale: float = 1.0, peers: dict[str, Peer] = PEERS) -> Iterator[Row | Skipped]:
    """All rows; `scale` multiplies every load."""
    yield from edge.rows(scale)
    for name, rows in peers.items():
        try:
            with time_limit(_PEER_S):
                yield from rows(scale)
        except NotInstallable as error:
            yield Skipped(name, f"cannot be installed: {error}")
        except (OSError, RuntimeError, subprocess.SubprocessError, TimeOver) as error:
            yield Skipped(name, f"does not run here: {error}")
