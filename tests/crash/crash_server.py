"""A server that is killed and started again on one data directory, and the things it calls that outlive it."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections import Counter
from pathlib import Path

from edge_process import APPS, EdgeProcess, kill_at_once

WORKERS = Path(__file__).parent / "workers"


class CrashServer:
    """`edge dev` of one worker folder on one data directory, with as many lives as wanted."""

    def __init__(self, folder: Path, data: Path, **variables: object) -> None:
        self.data = data
        self._arguments = ["dev", folder, "--port", 0, "--data", data, "--no-reload"]
        for name, value in variables.items():
            self._arguments += ["--var", f"{name}:{value}"]
        self.lives: list[EdgeProcess] = []
        self.kills = 0

    @property
    def edge(self) -> EdgeProcess:
        return self.lives[-1]

    def spawn(self) -> EdgeProcess:
        self.lives.append(EdgeProcess(*self._arguments))
        return self.edge

    def start(self) -> EdgeProcess:
        return self.spawn().wait_ready()

    def kill(self, family: list[int] | None = None) -> None:
        """SIGKILL for all of it. A `family` that was looked up before makes the shot more exact."""
        kill_at_once(family or [])
        self.edge.kill()
        self.kills += 1

    def close(self) -> None:
        for edge in self.lives:
            edge.kill()


class ModelServer:
    """The stand-in for a model; its log is a witness outside of everything that is killed."""

    def __init__(self, log: Path) -> None:
        self._log = log
        command = [sys.executable, APPS / "llm_offload/model_server.py", "--port", "0", "--word-delay-s", "0.002"]
        self._process = subprocess.Popen([*command, "--log", log], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip().rpartition(" ")[2] + "/v1"

    def calls(self) -> Counter[str]:
        """How often each prompt was asked."""
        return Counter(line["prompt"] for line in read_lines(self._log))

    def close(self) -> None:
        with self._process:
            self._process.kill()


def read_lines(log: Path) -> list[dict[str, object]]:
    """The whole lines of a witness log; none if nobody has written yet."""
    if not log.exists():
        return []
    return [json.loads(line) for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]


def process_named(edge: EdgeProcess, name: str) -> int:
    """The one process of a server that ps shows under this name."""
    names = {pid: _name_of(pid) for pid in edge.family()}
    found = [pid for pid, its_name in names.items() if its_name == name]
    assert len(found) == 1, f"{name} among {names}"
    return found[0]


def _name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def still_running(pids: list[int]) -> list[int]:
    """Those that have not ended; zombies have."""
    running = []
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state not in "ZX":
            running.append(pid)
    return running


class InjectedSyncs:
    """Tampers with the fdatasync calls of a process, in terms of strace's inject, while the context lasts."""

    def __init__(self, pid: int, what: str) -> None:
        self._pidfd = os.pidfd_open(pid)
        self._strace = subprocess.Popen(
            ["strace", "-f", "-p", str(pid), "-e", "trace=fdatasync", "-e", f"inject=fdatasync:{what}"],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._strace.stderr is not None
        said = self._strace.stderr.readline()
        assert "attached" in said, f"strace said {said!r}"

    def killed(self, within_s: float) -> bool:
        """Whether the process dies within the time."""
        return bool(select.select([self._pidfd], [], [], within_s)[0])

    def __enter__(self) -> InjectedSyncs:
        return self

    def __exit__(self, *_: object) -> None:
        with self._strace:
            self._strace.terminate()
            if self._strace.stderr is not None:
                self._strace.stderr.read()
        os.close(self._pidfd)


def kill_at_sync(pid: int, k: int) -> InjectedSyncs:
    """The process dies on its way into its k-th sync from now, so that this commit is never made."""
    return InjectedSyncs(pid, f"signal=KILL:when={k}")


def slow_syncs(pid: int, delay_s: float) -> InjectedSyncs:
    return InjectedSyncs(pid, f"delay_enter={int(delay_s * 1e6)}")
