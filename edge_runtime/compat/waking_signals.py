"""Which signals wake the event loop: those that a script handles.

trio has Python write every signal with a handler to a socket, and is woken by that: it is the only way for one that
comes just before the loop begins to wait. The tick of `isolate.events.cpu_guard` has nothing to do then, but while an
isolate works it comes all the time, and to be woken by it takes several times as long as the tick itself.
"""

from __future__ import annotations

import functools
import signal
from typing import Any, Final, cast

_NOBODY: Final = -1
_RUNTIME: Final = "edge_runtime."
_signal: Final = signal.signal

_handled = False
_woken = _NOBODY
"""What trio has had written to before `ticks_wake_nobody`, as a descriptor."""


def ticks_wake_nobody() -> None:
    """Call in a run of trio: signals do not wake it from now on, unless a script handles one."""
    global _woken
    if _handled:
        return
    woken = signal.set_wakeup_fd(_NOBODY)
    if woken != _NOBODY:
        _woken = woken


@functools.wraps(_signal)
def _handle_and_wake(signalnum: Any, handler: Any) -> Any:
    global _handled
    before = _signal(signalnum, handler)
    if callable(handler) and not (getattr(handler, "__module__", None) or "").startswith(_RUNTIME):
        _handled = True
        if _woken != _NOBODY:
            signal.set_wakeup_fd(_woken, warn_on_full_buffer=False)
    return before


def watch_handlers() -> None:
    """See from now on what a script handles; call before it is imported, as with `meter_trio`."""
    signal.signal = cast(Any, _handle_and_wake)
