"""What scripts print: read from a pipe in the supervisor, so that a terminal that stands still stops no isolate."""

from __future__ import annotations

import os
from collections.abc import Callable

import trio

from edge_runtime.limits import PRINTED_LINE_MAX

_READ_SIZE = 64 * 1024


async def follow_output(pipe: int, printed: Callable[[str], None]) -> None:
    """Call `printed` with each line, without its newline, until all writers are gone; closes the pipe.

    A line longer than PRINTED_LINE_MAX comes in pieces. What is no UTF-8 is replaced.
    """
    os.set_blocking(pipe, False)
    unfinished = b""
    try:
        while True:
            try:
                data = os.read(pipe, _READ_SIZE)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(pipe)
                continue
            *lines, unfinished = (unfinished + data).split(b"\n")
            if not data or len(unfinished) >= PRINTED_LINE_MAX:
                lines.append(unfinished)
                unfinished = b""
            for line in lines:
                if data or line:
                    _print_pieces(line, printed)
            if not data:
                return
            # A script that prints without end must not keep the loop from everything else.
            await trio.lowlevel.checkpoint()
    finally:
        trio.lowlevel.notify_closing(pipe)
        os.close(pipe)


def _print_pieces(line: bytes, printed: Callable[[str], None]) -> None:
    text = line.decode(errors="replace")
    for start in range(0, len(text) or 1, PRINTED_LINE_MAX):
        printed(text[start : start + PRINTED_LINE_MAX])
