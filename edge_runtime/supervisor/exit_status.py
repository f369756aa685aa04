"""What the status of an ended process says about its end: pure."""

from __future__ import annotations

import os
import signal
from typing import Final

_FROM_OUTSIDE: Final = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
"""What the kernel, when memory runs out, and people end processes with. Others are what a process's own code does."""


def how_ended(status: int | None) -> str:
    """For the log; `status` as os.waitpid gives it, None if nobody has seen it."""
    if status is None:
        return "it ended in an unknown way"
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"it exited with code {code}"
    name = signal.Signals(-code).name if -code in signal.Signals.__members__.values() else f"signal {-code}"
    if name == "SIGKILL":
        return "it was ended by SIGKILL (out of memory?)"
    return f"it was ended by {name}"


def crashed(status: int | None) -> bool:
    """Whether native code has ended it by what it did: by a signal, and nobody from outside."""
    return status is not None and os.waitstatus_to_exitcode(status) < 0 and not ended_from_outside(status)


def ended_from_outside(status: int) -> bool:
    return -os.waitstatus_to_exitcode(status) in _FROM_OUTSIDE
