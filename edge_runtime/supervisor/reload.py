"""Reloading a worker in development whenever its files change."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Final

import trio

from edge_runtime.supervisor.sources import IGNORED_FOLDERS

_QUIET_MS: Final = 100
"""Changes that follow each other within this are one change."""

_STEP_MS: Final = 20
_IGNORED_SUFFIXES: Final = (".pyc", ".swp", ".swx", "~", ".tmp")


async def watch(folder: Path, data_dir: Path, changed: Callable[[], Awaitable[None]]) -> None:
    """Await `changed` after each change below `folder`, until cancelled. What changes meanwhile is seen afterwards."""
    stop = threading.Event()
    # Imported here: only development needs it.
    from watchfiles import watch as watch_files

    def interesting(_: object, path: str) -> bool:
        parts = Path(path).parts
        inside_data = Path(path).is_relative_to(data_dir)
        return (
            not inside_data
            and IGNORED_FOLDERS.isdisjoint(parts[len(folder.parts) :])
            and not path.endswith(_IGNORED_SUFFIXES)
        )

    changes: Iterator[object] = watch_files(
        folder, watch_filter=interesting, debounce=_QUIET_MS, step=_STEP_MS, stop_event=stop, raise_interrupt=False
    )
    try:
        while True:
            # Abandoned, the thread ends by the stop event within a step.
            if await trio.to_thread.run_sync(next, changes, None, abandon_on_cancel=True) is None:
                return
            await changed()
    finally:
        stop.set()
