"""Commits of a running server's store, read beside it."""

from __future__ import annotations

from pathlib import Path

import lmdb


def commits(data: Path) -> int:
    """Write transactions the store has seen; each is one commit, which is one fdatasync and one synced meta page."""
    with lmdb.open(str(data / "store"), readonly=True, max_dbs=16) as environment:
        return int(environment.info()["last_txnid"])
