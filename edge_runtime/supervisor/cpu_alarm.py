"""Wakes a task as soon as another process has used some CPU time, on however many processors: by a timer of the kernel
on that process's clock, which the process can do nothing about."""

from __future__ import annotations

import ctypes
import signal
from typing import Final

import trio

from edge_runtime.process_cpu import process_clock, process_cpu_ns

_SIGNAL: Final = signal.SIGURG
"""Ignored where nobody listens. (Isolates have another use for it; a timer signals who has made it.)"""
_SIGEV_SIGNAL: Final = 0
_TIMER_ABSTIME: Final = 1

_libc: Final = ctypes.CDLL(None, use_errno=True)
_rings: Final[trio.lowlevel.RunVar[trio.Event | None]] = trio.lowlevel.RunVar("edge_cpu_alarms")
"""Set by the next signal. It may be that of any alarm: whoever waits looks at his clock."""


class _SigEvent(ctypes.Structure):
    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signo", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("_rest", ctypes.c_char * 48),
    )


class _TimeSpec(ctypes.Structure):
    _fields_ = (("s", ctypes.c_long), ("ns", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("interval", _TimeSpec), ("value", _TimeSpec))


async def follow_cpu_alarms() -> None:
    """Let the alarms of this run of trio be heard, until cancelled; on the main thread."""
    _rings.set(trio.Event())
    with trio.open_signal_receiver(_SIGNAL) as signals:
        async for _ in signals:
            if (rung := _rings.get(None)) is not None:
                rung.set()
            _rings.set(trio.Event())


class CpuAlarm:
    """Of one process. Where the kernel gives no such timer, or nobody follows alarms, it never rings."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._timer: ctypes.c_void_p | None = ctypes.c_void_p()
        event = _SigEvent(signo=_SIGNAL, notify=_SIGEV_SIGNAL)
        try:
            refused = _libc.timer_create(process_clock(pid), ctypes.byref(event), ctypes.byref(self._timer))
        except AttributeError:  # a C library that has it elsewhere
            refused = -1
        if refused:
            self._timer = None

    def close(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            _libc.timer_delete(timer)

    async def sleep(self, most_s: float, cpu_s: float) -> None:
        """Return after `most_s` seconds, or when the process has used `cpu_s` more of CPU time."""
        with trio.move_on_after(most_s):
            try:
                await self._wait(process_cpu_ns(self._pid) + int(cpu_s * 1e9))
            except OSError:
                await trio.sleep_forever()  # it has ended

    async def _wait(self, until_ns: int) -> None:
        if self._timer is None:
            await trio.sleep_forever()
        at = _TimerSpec(value=_TimeSpec(*divmod(until_ns, 1_000_000_000)))
        _libc.timer_settime(self._timer, _TIMER_ABSTIME, ctypes.byref(at), None)
        while process_cpu_ns(self._pid) < until_ns:
            rung = _rings.get(None)
            if rung is None:
                await trio.sleep_forever()
            await rung.wait()
