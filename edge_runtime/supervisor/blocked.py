"""How an isolate's blocked event loop, or an import that goes on and on, is told to the script's author."""

from __future__ import annotations

from collections.abc import Callable
from itertools import takewhile
from typing import Final

import trio

from edge_runtime.metering.stack_file import Stack
from edge_runtime.tracebacks import is_runtime_file

_BELOW_SCRIPTS: Final = ("edge_runtime/metering/measure.py", "edge_runtime/isolate/script/loader.py")
"""The frames from which code of scripts is called, and scripts are imported."""
_IMPORTS: Final = "/importlib/__init__.py"
"""What the loader calls."""
_OWN_FRAMES_SHOWN: Final = 5
"""Of a stack without any frame of a script."""
_LOOK_S: Final = 0.05
"""Between two looks whether a process has written where it is."""
_LOOKS: Final = 20


async def answered_stack(read: Callable[[], Stack]) -> Stack:
    """What a process that was just asked answers; empty if it does not."""
    for _ in range(_LOOKS):
        await trio.sleep(_LOOK_S)
        if stack := read():
            return stack
    return []


def blocked_notice(worker: str, pid: int, for_s: float, stack: Stack) -> str:
    """`stack` is innermost first; the script's frames are shown, if it has any."""
    return f"{worker}: the event loop of isolate {pid} has been blocked for {for_s:.1f} s{_place(stack)}"


def importing_notice(worker: str, for_s: float, stack: Stack) -> str:
    return f"{worker}: importing the script has taken {for_s:.1f} s and goes on, requests wait for it{_place(stack)}"


def _place(stack: Stack) -> str:
    called = list(takewhile(lambda frame: not frame[0].endswith(_BELOW_SCRIPTS), stack))
    theirs = [frame for frame in called if not is_runtime_file(frame[0])] or called[:_OWN_FRAMES_SHOWN]
    if theirs and theirs[-1][0].endswith(_IMPORTS):
        del theirs[-1]
    lines = [f'\n  File "{file}", line {line}, in {function}' for file, line, function in reversed(theirs)]
    return f"; it is here, the innermost call last:{''.join(lines)}" if lines else ""
