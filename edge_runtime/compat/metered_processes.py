"""Programs and copies of itself that a script starts: their CPU time, as far as the kernel tells it, is charged too.

A program started by `subprocess` (trio and asyncio use that) is charged to the event that started it, while it runs and
when it has been waited for; a process started in another way to the script's background work, and one whose parent has
ended, whose next parent is the isolate. None may use more than one event may: it is killed.

There is a limit to how many there are at a time, and to how far they may multiply: beyond it the kernel's own error for
that is raised, as a copy that makes copies without end would take the machine.
"""

from __future__ import annotations

import errno
import functools
import os
import resource
import signal
import subprocess
from pathlib import Path
from typing import Any, Final, NoReturn

from edge_runtime import forked
from edge_runtime.forked import child_pids
from edge_runtime.limits import FORKED_PROCESSES_MAX, SCRIPT_PROCESSES_MAX
from edge_runtime.metering.meter import BACKGROUND, Meter, user_meter
from edge_runtime.process_cpu import process_cpu_ns

_fork = os.fork
_forkpty = os.forkpty
_init = subprocess.Popen.__init__
_ended = subprocess.Popen._handle_exitstatus  # type: ignore[attr-defined]

_meters: Final[dict[int, Meter]] = {}
"""Of children that `subprocess` started and that have not been waited for, by pid."""
_charged_ns: Final[dict[int, int]] = {}
"""What children that have not been waited for were charged so far."""
_ended_looks: Final[dict[int, int]] = {}
"""How often `charge_processes` has found a child ended and not waited for."""
_FORGOTTEN_LOOKS: Final = 60
_totals: Final = [0, 0]
"""Nanoseconds: of children that were waited for, as far as they are charged; charged to any meter."""


def children_charged_ns() -> int:
    return _totals[1]


def meter_processes() -> None:
    """Call before a script is imported."""
    os.fork = _fork_limited
    os.forkpty = _forkpty_limited
    subprocess.Popen.__init__ = _init_measured  # type: ignore[method-assign]
    subprocess.Popen._handle_exitstatus = _ended_measured  # type: ignore[attr-defined]


@functools.wraps(_fork)
def _fork_limited() -> int:
    _refuse_copy()
    return _fork()


@functools.wraps(_forkpty)
def _forkpty_limited() -> tuple[int, int]:
    _refuse_copy()
    return _forkpty()


def _refuse_copy() -> None:
    if forked.generation > 1:
        _refuse("a process that a forked one has forked may fork none")
    _refuse_beyond()


def _refuse_beyond() -> None:
    most = FORKED_PROCESSES_MAX if forked.is_stray else SCRIPT_PROCESSES_MAX
    living = len(child_pids())
    if living >= most:
        _refuse(f"{living} processes that this one has started were not waited for, and it may have {most}")


def _refuse(why: str) -> NoReturn:
    raise BlockingIOError(errno.EAGAIN, f"{os.strerror(errno.EAGAIN)}: {why}")


@functools.wraps(_init)
def _init_measured(self: Any, *args: Any, **options: Any) -> None:
    _refuse_beyond()
    meter = user_meter.get()
    if meter is not None:
        # It holds the meter for as long as it may have to be charged.
        self._edge_meter = meter
        meter.shared = True
    _init(self, *args, **options)
    if meter is not None and self.returncode is None:
        _meters[self.pid] = meter


@functools.wraps(_ended)
def _ended_measured(self: Any, *args: Any, **options: Any) -> None:
    _ended(self, *args, **options)
    if self.returncode is not None:
        _meters.pop(self.pid, None)
        waited_ns = _waited_ns()
        used_ns = waited_ns - _totals[0] - _charged_ns.pop(self.pid, 0)
        _totals[0] = waited_ns
        _charge(getattr(self, "_edge_meter", BACKGROUND), used_ns)


def charge_processes(limit_ns: int) -> list[int]:
    """Charge what child processes have used so far; kill those beyond the limit, and return their pids."""
    living = child_pids()
    waited_ns = _waited_ns()
    gone_ns = sum(_charged_ns.pop(pid) for pid in list(_charged_ns) if pid not in living)
    used_ns = waited_ns - _totals[0] - gone_ns
    _totals[0] = waited_ns
    if used_ns > 0:
        _charge(BACKGROUND, used_ns)
    killed = []
    _reap_forgotten(living)
    for pid in living:
        try:
            cpu_ns = process_cpu_ns(pid)
        except OSError:
            continue
        _charge(_meters.get(pid, BACKGROUND), cpu_ns - _charged_ns.get(pid, 0))
        _charged_ns[pid] = cpu_ns
        if cpu_ns > limit_ns and not _has_ended(pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            killed.append(pid)
    return killed


def _reap_forgotten(living: set[int]) -> None:
    """Let children go that ended long ago and that nobody waits for: their parents ended before them."""
    for pid in [pid for pid in _ended_looks if pid not in living]:
        del _ended_looks[pid]
    for pid in living - _meters.keys():
        if _has_ended(pid):
            _ended_looks[pid] = _ended_looks.get(pid, 0) + 1
            if _ended_looks[pid] > _FORGOTTEN_LOOKS:
                try:
                    os.waitpid(pid, os.WNOHANG)
                except ChildProcessError:
                    continue  # somebody has waited for it just now


def _has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"Z"
    except (OSError, IndexError):
        return False


def _charge(meter: Meter, used_ns: int) -> None:
    meter.cpu_s += used_ns / 1e9
    _totals[1] += used_ns


def _waited_ns() -> int:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return int((used.ru_utime + used.ru_stime) * 1e9)
