"""Capabilities that tests need from the machine; a test without them is skipped, and the report says why.

Properties are tried with the same examples on every run, so that a run tells of the change and not of its luck;
`--hypothesis-profile=search` tries others each time.
"""

from __future__ import annotations

import ctypes
import gc
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from browser import chromium
from hypothesis import HealthCheck, settings

# However slow the machine is, no example is too slow on it.
settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("suite", settings.get_profile("search"), derandomize=True, database=None)
settings.load_profile("suite")


@pytest.fixture
def no_collection() -> Iterator[None]:
    """No garbage is collected meanwhile: in a process of thousands of tests that takes longer than what is measured."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@cache
def missing(capability: str) -> str | None:
    """Why the machine lacks a capability; None if it has it."""
    if capability == "ptrace":
        strace = shutil.which("strace")
        if strace is None:
            return "strace is not installed"
        traced = subprocess.run([strace, "-e", "trace=none", "true"], capture_output=True, check=False)
        return None if traced.returncode == 0 else "tracing is not permitted"
    if capability == "examples":
        given = "EDGE_EXAMPLES" in os.environ
        return None if given else "EDGE_EXAMPLES does not name a checkout of cloudflare/python-workers-examples"
    if capability == "profiler":
        beside = shutil.which("py-spy", path=str(Path(sys.executable).parent))
        return None if beside or shutil.which("py-spy") else "py-spy is not installed"
    if capability == "browser":
        return None if chromium() else "no Chromium is installed"
    if capability == "pidfd_getfd":
        return _why_no_descriptor_can_be_taken()
    known = "browser, examples, pidfd_getfd, profiler and ptrace"
    raise pytest.UsageError(f"unknown capability {capability!r}; known are {known}")


def _why_no_descriptor_can_be_taken() -> str | None:
    """From a child, as the supervisor takes them from isolates."""
    child = os.fork()
    if not child:
        time.sleep(60)
        os._exit(0)
    pidfd = os.pidfd_open(child)
    try:
        taken = ctypes.CDLL(None, use_errno=True).syscall(438, pidfd, 0, 0)
        if taken < 0:
            return f"the system does not allow it ({os.strerror(ctypes.get_errno())})"
        os.close(taken)
        return None
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(pidfd)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("needs"):
        for capability in marker.args:
            reason = missing(capability)
            if reason is not None:
                pytest.skip(f"needs {capability}: {reason}")
