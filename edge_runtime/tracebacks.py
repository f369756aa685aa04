"""A script's tracebacks, as its author needs them: without the frames of the runtime that called it."""

from __future__ import annotations

from pathlib import Path
from traceback import FrameSummary, TracebackException
from typing import Final

_OURS: Final = (f"{Path(__file__).parent}/", f"{Path(__file__).parent.parent / 'bindings'}/", "<frozen importlib")
_OUR_MACHINERY: Final = tuple(f"-packages/{name}/" for name in ("trio", "trio_asyncio", "outcome", "hypercorn", "h11"))


def script_traceback(error: BaseException) -> str:
    """The formatted traceback of what a script raised.

    Frames of the runtime are left out wherever the script has frames too. An error that passed through none of the
    script's code is a complaint about it if the runtime raised it on purpose, and told in one line; anything else is
    the runtime's own fault and keeps all frames.
    """
    trace = TracebackException.from_exception(error)
    _leave_out_ours(trace)
    return "".join(trace.format())


def _leave_out_ours(first: TracebackException) -> None:
    left = [first]
    for trace in left:
        theirs = [frame for frame in trace.stack if not _is_ours(frame)]
        if theirs or trace is not first or not trace.stack or _is_on_purpose(trace.stack[-1]):
            trace.stack[:] = theirs
        left += [part for part in (trace.__cause__, trace.__context__, *(trace.exceptions or ())) if part is not None]


def _is_ours(frame: FrameSummary) -> bool:
    return is_runtime_file(frame.filename)


def is_runtime_file(file: str) -> bool:
    """Whether code of this file belongs to the runtime and what it is made of, not to the script and its libraries."""
    return file.startswith(_OURS) or any(name in file for name in _OUR_MACHINERY)


def _is_on_purpose(frame: FrameSummary) -> bool:
    return (frame.line or "").startswith("raise ")
