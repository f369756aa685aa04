"""Processes that a script forks: they hold a copy of the isolate, and must not go on as if they were it.

Such a process may do what it likes within the script's own stretch of code. When it comes out of it, to wait or to
return, it is ended: the event loop, the connections and the store belong to the process that it was forked from.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final, NoReturn

EXIT_CRASHED: Final = 70
"""The process did what it must not, or our own code in it failed. (EX_SOFTWARE of sysexits.h)"""

STRAYED: Final = (
    "a process that the script forked returned to its handler's caller, which it has no event loop for, and was ended; "
    "end such a process with os._exit(), or use subprocess\n"
)

is_stray = False
"""Whether this process was forked by somebody else than the runtime."""
generation = 0
"""How many forks by somebody else lie between this process and one of the runtime's."""


def be_at_home() -> None:
    """This process was forked by the runtime."""
    global generation, is_stray
    is_stray = False
    generation = 0


def end_stray() -> NoReturn:
    sys.stderr.write(STRAYED)
    flush_output()
    os._exit(EXIT_CRASHED)


def child_pids() -> set[int]:
    """The children of this process, those included that it got when their parents ended, and those that nobody has
    waited for yet."""
    found: set[int] = set()
    for thread in Path("/proc/self/task").iterdir():
        try:
            found.update(map(int, (thread / "children").read_text().split()))
        except OSError:
            continue  # the thread has ended, or the kernel does not tell
    return found


def flush_output() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            # Closed or broken, by a script perhaps; there is nowhere left to say so.
            continue


def _stray() -> None:
    global generation, is_stray
    is_stray = True
    generation += 1


os.register_at_fork(after_in_child=_stray)
