"""Where the CPU goes: a sampling profiler (py-spy) looks at an isolate while it is under load.

It is an extra: `pip install 'edge-runtime[profile]'`. It needs the right to trace processes of the same user, as
strace does.
"""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import trio

from edge_runtime.errors import UsageError

_SAMPLES_PER_S: Final = 500
_LARGEST: Final = 10
_ATTEMPTS: Final = 3
"""It reads the memory of a process that goes on, which fails at unlucky moments."""


@dataclass(frozen=True, slots=True)
class Cost:
    """A function's part of all samples: in itself, and with what it calls."""

    function: str
    own: float
    total: float


def find_profiler() -> str:
    """The profiler's command. UsageError, saying how to install it, if there is none."""
    found = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")
    if found is None:
        raise UsageError(
            "cannot profile: py-spy is not installed; install it with: pip install 'edge-runtime[profile]'"
        )
    return found


async def profile(pid: int, load: Callable[[], Awaitable[object]], *, seconds: int, svg: Path) -> tuple[Cost, ...]:
    """Sample a process twice while `load` runs again and again: a flame graph into `svg`, and the largest costs.

    Raises UsageError if the profiler cannot look at the process.
    """
    profiler = find_profiler()
    with TemporaryDirectory(prefix="edge-bench-") as folder:
        raw = Path(folder) / "stacks"
        await _record(profiler, pid, load, seconds, "flamegraph", svg)
        await _record(profiler, pid, load, seconds, "raw", raw)
        return largest_costs(raw.read_text().splitlines())


async def _record(
    profiler: str, pid: int, load: Callable[[], Awaitable[object]], seconds: int, format: str, output: Path
) -> None:
    command = [profiler, "record", "--pid", str(pid), "--duration", str(seconds), "--rate", str(_SAMPLES_PER_S)]
    # Threads that wait are no cost, and whether one waits is seen best by who holds the interpreter.
    command += ["--gil", "--format", format, "--function", "--output", str(output)]
    failed: UsageError | None = None
    complaint: str | None = None
    async with trio.open_nursery() as nursery:

        async def keep_busy() -> None:
            nonlocal failed
            try:
                while True:
                    await load()
            except UsageError as error:
                failed = error
                nursery.cancel_scope.cancel()

        nursery.start_soon(keep_busy)
        for _ in range(_ATTEMPTS):
            complaint = await _run(command, output)
            if complaint is None:
                break
        nursery.cancel_scope.cancel()
    if failed is not None:
        raise failed
    if complaint is not None:
        raise UsageError(
            f"cannot profile process {pid}: py-spy says: {complaint}; it needs the right to trace processes "
            "(root, or kernel.yama.ptrace_scope=0)"
        )


async def _run(command: list[str], output: Path) -> str | None:
    """None if the profiler has written its output, otherwise what it said."""
    done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
    written = trio.Path(output)
    if done.returncode == 0 and await written.exists() and (await written.stat()).st_size:
        return None
    return (done.stderr or done.stdout).decode(errors="replace").strip() or "nothing"


def largest_costs(stacks: list[str], limit: int = _LARGEST) -> tuple[Cost, ...]:
    """The functions with most samples of their own, of lines "outer;inner;innermost COUNT"."""
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    samples = 0
    for line in stacks:
        frames, _, number = line.rpartition(" ")
        count = int(number)
        names = frames.split(";")
        samples += count
        own[names[-1]] += count
        for name in set(names):
            total[name] += count
    return tuple(Cost(name, count / samples, total[name] / samples) for name, count in own.most_common(limit))
