"""A script's tracebacks, as its author needs them: without the frames of the runtime that called it."""

from __future__ import annotations

from pathlib import Path
from traceback import TracebackException
from typing import Final

_OURS: Final = (f"{Path(__file__).parent}/", f"{Path(__file__).parent.parent / 'bindings'}/", "<frozen importlib")


def script_traceback(error: BaseException) -> str:
    """The formatted traceback of what a script raised.

    Frames of the runtime are left out wherever the script has frames too. An error that passed through none of the
    script's code is likely the runtime's own fault and keeps them all; a SyntaxError names its place itself.
    """
    trace = TracebackException.from_exception(error)
    _leave_out_ours(trace)
    return "".join(trace.format())


def _leave_out_ours(first: TracebackException) -> None:
    left = [first]
    for trace in left:
        theirs = [frame for frame in trace.stack if not frame.filename.startswith(_OURS)]
        if theirs or trace is not first or trace.exc_type is SyntaxError:
            trace.stack[:] = theirs
        left += [part for part in (trace.__cause__, trace.__context__, *(trace.exceptions or ())) if part is not None]
