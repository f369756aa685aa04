"""How often a system forces data to the disk, counted with strace while it works."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

_ATTACH_S = 30.0
_SYNCS = ("fsync", "fdatasync", "syncfs")
_WRITES = ("pwrite64", "pwritev", "pwritev2")
_CALL = re.compile(r"^(\d+) +(\w+)\((\d+)?(.*)$", re.MULTILINE)


def count_syncs(pids: Sequence[int], work: Callable[[], int]) -> float | None:
    """Calls that return once data is on the disk, per operation of `work`, in these processes and all they start; None
    if this machine lets nobody trace.

    They are fsync, fdatasync, syncfs, msync with MS_SYNC, and writes at a place in a file that is open with O_DSYNC or
    O_SYNC. Tracing slows the system down, so that fewer operations may share a sync than at full speed.
    """
    strace = shutil.which("strace")
    if strace is None:
        return None
    with tempfile.TemporaryDirectory(prefix="edge-strace-") as folder:
        calls = Path(folder) / "calls"
        traced = ",".join((*_SYNCS, "msync", *_WRITES))
        command = [strace, "-f", "-qq", "-s", "0", "-o", str(calls), "-e", f"trace={traced}", "-e", "signal=none"]
        for pid in pids:
            command += ["-p", str(pid)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as tracer:
            try:
                if not _attached(pids, tracer):
                    return None
                operations = work()
            finally:
                tracer.send_signal(signal.SIGINT)
                tracer.communicate()
        # The traced processes live on, and it can be seen how they opened what they wrote to.
        return _forced(calls.read_text()) / operations


def _attached(pids: Sequence[int], tracer: subprocess.Popen[str]) -> bool:
    """Whether every thread of every process is traced, within the time for it."""
    deadline = time.monotonic() + _ATTACH_S
    while time.monotonic() < deadline and tracer.poll() is None:
        if all(_is_traced(pid) for pid in pids):
            return True
        time.sleep(0.02)
    return False


def _is_traced(pid: int) -> bool:
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        try:
            if not re.search(r"^TracerPid:\s+[1-9]", status.read_text(), re.MULTILINE):
                return False
        except OSError:
            continue  # the thread has ended
    return True


def _forced(calls: str) -> int:
    forced = 0
    open_synced: dict[tuple[str, str], bool] = {}
    for thread, call, file, rest in _CALL.findall(calls):
        if call in _SYNCS or (call == "msync" and "MS_SYNC" in rest):
            forced += 1
        elif call in _WRITES:
            if (thread, file) not in open_synced:
                open_synced[thread, file] = _is_open_synced(thread, file)
            forced += open_synced[thread, file]
    return forced


def _is_open_synced(thread: str, file: str) -> bool:
    try:
        text = Path(f"/proc/{thread}/fdinfo/{file}").read_text()
    except OSError:
        return False  # it was closed meanwhile
    flags = re.search(r"^flags:\s+([0-7]+)$", text, re.MULTILINE)
    return flags is not None and bool(int(flags[1], 8) & os.O_DSYNC)
