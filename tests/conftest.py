"""Capabilities that tests need from the machine; a test without them is skipped, and the report says why."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from browser import chromium


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
    raise pytest.UsageError(f"unknown capability {capability!r}; known are browser, examples, profiler and ptrace")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("needs"):
        for capability in marker.args:
            reason = missing(capability)
            if reason is not None:
                pytest.skip(f"needs {capability}: {reason}")
