"""What every forked process of the runtime does first and last, so that none outlives its parent.

The tree is: server, zygote, templates, isolates. A child dies when its parent does, whatever its own code is doing.
What scripts start can leave that order, with a session of its own and parents that end; each process of the tree is
the next parent of all that is orphaned below it, and ends what its children have left to it.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Final, NoReturn

from edge_runtime.forked import EXIT_CRASHED, STRAYED, be_at_home, child_pids, flush_output

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NAME: Final = 15
_PR_SET_CHILD_SUBREAPER: Final = 36
_fork: Final = os.fork
"""Without the limit that scripts have."""
_libc: Final = ctypes.CDLL(None, use_errno=True)


def fork(child: Callable[[], int], name: str) -> int:
    """Fork; the child runs `child`, ends with the code it returns, and is killed when this thread's process ends.

    Call it from a single-threaded process. `name` is what ps shows, at most 15 bytes. Returns the child's pid.
    """
    flush_output()
    parent = os.getpid()
    pid = _fork()
    if pid:
        return pid
    _run_and_exit(child, name, parent)


def _run_and_exit(child: Callable[[], int], name: str, parent: int) -> NoReturn:
    code = EXIT_CRASHED
    own = os.getpid()
    be_at_home()
    try:
        end_with(parent)
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        _libc.prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)
        code = child()
    except BaseException:
        # SystemExit too: the stack below belongs to the parent's copy and must not be unwound into.
        if os.getpid() == own:
            traceback.print_exc()
        else:
            sys.stderr.write(STRAYED)
    finally:
        flush_output()
        os._exit(code)


def end_with(parent: int) -> None:
    """Have this process killed when the thread of its parent that started it ends, or end it if that has happened."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)  # the parent died before the death signal was asked for


def leave_terminal() -> None:
    """Do not take the terminal's signals and input: when to end is said on the control socket.

    The handlers do nothing, rather than being SIG_IGN, because programs that a script starts inherit SIG_IGN and
    could not be terminated.
    """
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _do_nothing)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)


def print_to(descriptor: int) -> None:
    """Make a descriptor this process's standard output and error, line by line; it is closed as a number of its own."""
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = open(  # noqa: SIM115  # for the life of the process
            number, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _do_nothing(*_: object) -> None:
    pass


class Children:
    """The child processes of a single-threaded parent that waits in poll(), told apart by their pidfds."""

    def __init__(self, also: int) -> None:
        self._poll = select.poll()
        self._poll.register(also, select.POLLIN)
        self._also = also
        self._pids: dict[int, int] = {}
        self._others: set[int] = set()

    def keep_others(self) -> None:
        """Let those children live that are there now and were not added: a script has started them at import time."""
        self._others = child_pids()

    def add(self, pid: int) -> int:
        """Watch a child; returns its pidfd, which stays ours."""
        pidfd = os.pidfd_open(pid)
        self._pids[pidfd] = pid
        self._poll.register(pidfd, select.POLLIN)
        return pidfd

    def wait(self) -> tuple[bool, list[tuple[int, int, int]]]:
        """Wait for input on the other descriptor or the end of a child.

        Returns whether there is input, and (pid, status as of waitpid, CPU us) of those that have ended. What an ended
        child left behind is killed by then, in its own process group before its pid can be given to another process.
        """
        ready = [descriptor for descriptor, _ in self._poll.poll()]
        ended = []
        for pidfd in ready:
            pid = self._pids.pop(pidfd, None)
            if pid is None:
                continue
            self._poll.unregister(pidfd)
            os.close(pidfd)
            try:
                os.killpg(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                # No group of its own, as usual for templates, or nothing left in it that is ours.
                pass
            _, status, used = os.wait4(pid, 0)
            ended.append((pid, status, int((used.ru_utime + used.ru_stime) * 1e6)))
        if ended:
            self._end_orphans()
        return self._also in ready, ended

    def _end_orphans(self) -> None:
        while orphans := child_pids() - self._others - set(self._pids.values()):
            for pid in orphans:
                try:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                except (ProcessLookupError, ChildProcessError):
                    continue
                except PermissionError:
                    self._others.add(pid)  # a program of another user, by its set-user-ID bit

    def forget(self) -> None:
        """Close the pidfds; for a forked copy of the parent."""
        for pidfd in self._pids:
            os.close(pidfd)
        self._pids.clear()
