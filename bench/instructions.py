"""How many instructions an isolate needs for a load: steadier than CPU time while the machine does other things."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from bench.processes import Server

_EVENTS = "instructions:u,instructions:k"
_ATTACHED_S = 0.5


def isolate_of(server: Server) -> int:
    """The pid of the server's one isolate."""
    for pid in reversed(server.pids()):
        if Path(f"/proc/{pid}/comm").read_text().strip() == "edge-isolate":
            return pid
    raise RuntimeError("the server has no isolate; send it a request first")


def instructions(server: Server, load: Callable[[], object]) -> int | None:
    """Instructions of the isolate, user and kernel, while `load` runs; None where `perf` cannot count them."""
    if shutil.which("perf") is None:
        return None
    command = ["perf", "stat", "-x,", "-e", _EVENTS, "-p", str(isolate_of(server))]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as perf:
        time.sleep(_ATTACHED_S)
        load()
        perf.send_signal(signal.SIGINT)
        assert perf.stderr is not None
        counts = [line.split(",")[0] for line in perf.stderr.read().splitlines() if "instructions" in line]
    return sum(map(int, counts)) if counts and all(count.isdigit() for count in counts) else None
