"""A timer on the CPU clock of the process whose signal goes to the event loop's thread.

The signal of `signal.setitimer` goes to the thread that runs just then; where that is another one, Python calls the
handler only when something wakes the loop. This one interrupts the loop's own wait: the handler is called, and the wait
goes on. By timer_create(2) of Linux; that of POSIX knows no threads.
"""

from __future__ import annotations

import ctypes
import os
import time
from typing import Final

_SIGEV_THREAD_ID: Final = 4
_SIGEVENT_INTS: Final = 16
"""Of 64 bytes: two for a value that is not used, the signal, the kind, the thread; the rest is reserved."""

_libc: Final = ctypes.CDLL(None, use_errno=True)


class _Times(ctypes.Structure):
    """struct itimerspec"""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("first_s", ctypes.c_long),
        ("first_ns", ctypes.c_long),
    )


class CpuTimer:
    """For the life of the process; forked ones do not have it."""

    def __init__(self, signal_number: int) -> None:
        loop = os.getpid()  # the kernel's id of a process is that of its first thread
        event = (ctypes.c_int * _SIGEVENT_INTS)(0, 0, signal_number, _SIGEV_THREAD_ID, loop)
        self._timer = ctypes.c_void_p()
        _check(_libc.timer_create(time.CLOCK_PROCESS_CPUTIME_ID, event, ctypes.byref(self._timer)))

    def arm(self, first_s: float, interval_s: float) -> None:
        """Signal after that much CPU time of the process, and from then on again and again; 0: never again."""
        times = _Times(*divmod(int(interval_s * 1e9), 1_000_000_000), *divmod(int(first_s * 1e9), 1_000_000_000))
        _check(_libc.timer_settime(self._timer, 0, ctypes.byref(times), None))


def _check(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"the timer of CPU time: {os.strerror(number)}")
