"""Writing lines to a terminal or pipe that may not take them, without ever waiting for it."""

from __future__ import annotations

import os
import threading
from collections import deque
from types import TracebackType
from typing import TextIO

from edge_runtime.limits import OUTPUT_LINES_MAX


class LineWriter:
    """Lines queue up for a thread that writes them; what exceeds OUTPUT_LINES_MAX is dropped and counted.

    Once the other side reads again it is told how many lines are missing. Make it after the zygote was started. As a
    context it closes at the end.
    """

    def __init__(self, stream: TextIO) -> None:
        stream.flush()
        self._descriptor = stream.fileno()
        self._lines: deque[str] = deque()
        self._state = threading.Condition()
        self._closing = False
        self._missing = 0
        self.dropped = 0
        """Lines given up so far."""
        self._thread = threading.Thread(target=self._write_lines, name="output", daemon=True)
        self._thread.start()

    def write(self, line: str) -> None:
        """Queue a line, without its newline."""
        with self._state:
            if len(self._lines) >= OUTPUT_LINES_MAX:
                self._missing += 1
                self.dropped += 1
            else:
                self._lines.append(line)
                self._state.notify()

    def __enter__(self) -> LineWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self, timeout_s: float = 0.5) -> None:
        """Write what is queued, for as long as `timeout_s` allows."""
        with self._state:
            self._closing = True
            self._state.notify()
        self._thread.join(timeout_s)

    def _write_lines(self) -> None:
        while True:
            with self._state:
                while not self._lines and not self._closing:
                    self._state.wait()
                if not self._lines:
                    return
                lines = list(self._lines)
                self._lines.clear()
            try:
                self._write("".join(f"{line}\n" for line in lines))
                with self._state:
                    missing, self._missing = self._missing, 0
                if missing:
                    self._write(f"({missing} lines were dropped: the output was not read)\n")
            except OSError:
                # Nobody will ever read it: drop this and whatever follows, but keep taking it.
                with self._state:
                    self.dropped += len(lines)

    def _write(self, text: str) -> None:
        data = text.encode(errors="backslashreplace")
        while data:
            data = data[os.write(self._descriptor, data) :]
