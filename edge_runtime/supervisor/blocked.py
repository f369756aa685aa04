"""How an isolate's blocked event loop is told to the script's author."""

from __future__ import annotations

from itertools import takewhile
from typing import Final

from edge_runtime.tracebacks import is_runtime_file

_BELOW_SCRIPTS: Final = "edge_runtime/metering/measure.py"
"""The frame from which code of scripts is called."""
_OWN_FRAMES_SHOWN: Final = 5
"""Of a stack without any frame of a script."""


def blocked_notice(worker: str, pid: int, for_s: float, stack: list[tuple[str, int, str]]) -> str:
    """`stack`: file, line and function of its frames, innermost first; the script's are shown, if it has any."""
    called = list(takewhile(lambda frame: not frame[0].endswith(_BELOW_SCRIPTS), stack))
    theirs = [frame for frame in called if not is_runtime_file(frame[0])] or called[:_OWN_FRAMES_SHOWN]
    lines = [f'\n  File "{file}", line {line}, in {function}' for file, line, function in reversed(theirs)]
    place = f"; it is here, the innermost call last:{''.join(lines)}" if lines else ""
    return f"{worker}: the event loop of isolate {pid} has been blocked for {for_s:.1f} s{place}"
