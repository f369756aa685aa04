"""What the store of a running server holds, read beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import trio

from edge_runtime.store.api import Snapshot
from edge_runtime.store.lmdb_store import open_store

T = TypeVar("T")


def look(data: Path, read: Callable[[Snapshot], T]) -> T:
    """What `read` makes of the store now. Not to be called where trio runs."""

    async def opened() -> T:
        async with open_store(data / "store", readonly=True) as store:
            with store.snapshot() as snapshot:
                return read(snapshot)

    return trio.run(opened)
