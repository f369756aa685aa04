"""Reloading a worker in development whenever its files change."""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
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

    changes: Iterator[object] = watch_files(
        folder,
        watch_filter=changes_of_worker(folder, data_dir),
        debounce=_QUIET_MS,
        step=_STEP_MS,
        stop_event=stop,
        raise_interrupt=False,
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


def changes_of_worker(folder: Path, data_dir: Path, output: Sequence[int] = (1, 2)) -> Callable[[object, str], bool]:
    """A filter of `watchfiles`. What tools put beside a worker's files is no change of it, nor is a file that one of
    the `output` descriptors writes to: each reload prints a line, and must not be the reason for another."""
    own_output = set(map(_identity, output))

    def interesting(_: object, path: str) -> bool:
        parts = Path(path).parts
        return (
            not Path(path).is_relative_to(data_dir)
            and IGNORED_FOLDERS.isdisjoint(parts[len(folder.parts) :])
            and not path.endswith(_IGNORED_SUFFIXES)
            and _identity(path) not in own_output
        )

    return interesting


def _identity(file: str | int) -> tuple[int, int] | None:
    """Of a path or descriptor; None if there is no file."""
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_dev, status.st_ino
