"""Where another process is in its code: asked by a signal, answered into a file that both have open.

The answer is written by native code, whatever the process is doing. The file is read as a file: nothing that a hostile
script does to it harms the reader.
"""

from __future__ import annotations

import faulthandler
import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_READ: Final = 64 * 1024
STACK_SIGNAL: Final = signal.SIGURG
"""Ignored by processes that do not handle it, so one that a script has taken off its handler is not harmed."""
FRAME: Final = re.compile(r'  File "(.*)", line (\d+) in (.*)')

Stack = list[tuple[str, int, str]]
"""File, line and function of frames."""


@contextmanager
def stack_shown_in(file: int) -> Iterator[None]:
    """Answer in the block who asks by a `StackReader` of the file."""
    faulthandler.register(STACK_SIGNAL, file, all_threads=False)
    try:
        yield
    finally:
        faulthandler.unregister(STACK_SIGNAL)


class StackReader:
    """Where another process is: asked by a signal, answered into a file that both have open."""

    def __init__(self, file: int) -> None:
        self._file = file

    def close(self) -> None:
        os.close(self._file)

    def ask(self, pidfd: int) -> None:
        try:
            os.ftruncate(self._file, 0)
            os.lseek(self._file, 0, os.SEEK_SET)
            signal.pidfd_send_signal(pidfd, STACK_SIGNAL)
        except (OSError, ProcessLookupError):
            pass  # dead, or it has sealed the file: then there is no answer

    def read(self) -> Stack:
        """The answer, innermost first; empty if there is none."""
        return [(file, int(line), function) for file, line, function in FRAME.findall(self.text())]

    def text(self) -> str:
        """What faulthandler has written, of a crash too."""
        return os.pread(self._file, _READ, 0).decode("utf-8", "replace")
