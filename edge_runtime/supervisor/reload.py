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


class _Stop(threading.Event):
    """The event that ends a watcher. It is asked for at each step: the first time means that changes are seen."""

    def __init__(self) -> None:
        super().__init__()
        self.watching = trio.Event()
        self._token = trio.lowlevel.current_trio_token()
        self._asked = False

    def is_set(self) -> bool:
        if not self._asked:
            self._asked = True
            self._token.run_sync_soon(self.watching.set)
        return super().is_set()


async def watch(
    folder: Path,
    data_dir: Path,
    changed: Callable[[], Awaitable[None]],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Await `changed` after each change below `folder`, until cancelled. What changes meanwhile is seen afterwards.

    It has started once no change goes unseen.
    """
    stop = _Stop()
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

    async def tell_when_watching() -> None:
        await stop.watching.wait()
        task_status.started()

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell_when_watching)
            # Abandoned, the thread ends by the stop event within a step.
            while await trio.to_thread.run_sync(next, changes, None, abandon_on_cancel=True) is not None:
                await changed()
            nursery.cancel_scope.cancel()
    finally:
        stop.set()
