"""Installing the third-party packages that a worker needs, each set into a folder of its own.

A folder `<packages>/<hash>` is complete whenever it exists: pip fills `<hash>.partial`, which is then renamed. Sets are
shared by all workers with the same requirements, and never changed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio

from edge_runtime.errors import UsageError

_LOCK_POLL_S = 0.05
_LINES_KEPT = 20


class InstallFailed(UsageError):
    """pip could not install the requirements; `lines` is the end of what it said."""

    def __init__(self, requirements: Sequence[str], lines: Sequence[str], status: int) -> None:
        self.requirements, self.lines, self.status = tuple(requirements), tuple(lines), status
        wanted = ", ".join(requirements)
        said = "\n".join(f"  {line}" for line in lines) or "  (it said nothing)"
        super().__init__(f"cannot install the worker's requirements ({wanted}): pip ended with status {status}\n{said}")


def site_folder(requirements: Sequence[str], packages: Path) -> Path | None:
    """Where these requirements are, or would be, installed for this interpreter; None when there are none."""
    if not requirements:
        return None
    identity = [sys.implementation.cache_tag or sys.version, sysconfig.get_platform(), *sorted(set(requirements))]
    return packages / hashlib.sha256("\n".join(identity).encode()).hexdigest()[:32]


async def install_requirements(
    requirements: Sequence[str], packages: Path, progress: Callable[[str], None]
) -> Path | None:
    """Install with pip unless that was done before; the folder to put on `sys.path`, None when there is nothing.

    Requirements are always installed there, also those that this environment has already.

    Args:
        requirements: PEP 508 texts.
        packages: holds the folders; made if missing.
        progress: called with each line that pip prints.
    Raises:
        InstallFailed: pip failed; nothing is left behind.
        OSError: `packages` cannot be written.
    Trio: a checkpoint when something is installed. Cancelling ends pip and removes what it wrote. Another installer of
        the same requirements, in any process, is waited for.
    """
    site = site_folder(requirements, packages)
    if site is None or site.is_dir():
        return site
    await trio.to_thread.run_sync(partial(packages.mkdir, parents=True, exist_ok=True))
    async with _locked(site.with_suffix(".lock")):
        if not site.is_dir():
            partial_site = site.with_suffix(".partial")
            try:
                # Left by an installer that was killed.
                await trio.to_thread.run_sync(_remove, partial_site)
                await _run_pip(requirements, partial_site, progress)
                await trio.to_thread.run_sync(_publish, partial_site, site)
            finally:
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(_remove, partial_site)
    return site


@asynccontextmanager
async def _locked(path: Path) -> AsyncIterator[None]:
    """Hold an exclusive lock on a file, against other processes and other tasks; the file stays."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await trio.sleep(_LOCK_POLL_S)
        yield
    finally:
        os.close(descriptor)


async def _run_pip(requirements: Sequence[str], target: Path, progress: Callable[[str], None]) -> None:
    # -P: a file pip.py in the current folder must not be taken for pip.
    command = [sys.executable, "-P", "-m", "pip", "install", "--target", str(target), "--no-input"]
    command += [
        "--disable-pip-version-check",
        "--no-warn-script-location",
        "--progress-bar",
        "off",
        "--",
        *requirements,
    ]
    # A user's setting would contradict --target; unbuffered, so that progress is seen in time.
    environment = {**os.environ, "PIP_USER": "0", "PYTHONUNBUFFERED": "1"}
    last: deque[str] = deque(maxlen=_LINES_KEPT)
    async with trio.open_nursery() as nursery:
        process: trio.Process = await nursery.start(
            partial(
                trio.run_process,
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
                env=environment,
                start_new_session=True,
                deliver_cancel=_kill_group,
            )
        )
        assert process.stdout is not None, "stdout was asked for"
        unfinished = b""
        async for chunk in process.stdout:
            *lines, unfinished = (unfinished + chunk).split(b"\n")
            for line in lines:
                _take(line, last, progress)
        _take(unfinished, last, progress)
    assert process.returncode is not None, "run_process waits for the end"
    if process.returncode != 0:
        raise InstallFailed(requirements, list(last), process.returncode)


def _take(line: bytes, last: deque[str], progress: Callable[[str], None]) -> None:
    text = line.decode("utf-8", "replace").strip("\r")
    if text.strip():
        last.append(text)
        progress(text)


async def _kill_group(process: trio.Process) -> None:
    # The build tools that pip started are in its session; none of them holds anything worth a gentle end.
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it ended by itself just now


def _publish(partial_site: Path, site: Path) -> None:
    # A requirement whose marker excludes this platform leaves pip with nothing to make a folder for.
    partial_site.mkdir(exist_ok=True)
    # The rename must not reach the disk before the files: after a power cut the folder would be taken for complete.
    os.sync()
    partial_site.rename(site)


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
