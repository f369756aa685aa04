"""Installing peers from the public registries, PyPI and npm, into a folder that is kept between runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

_INSTALL_S = 600.0


class NotInstallable(Exception):
    """A peer cannot be had on this machine; the text says why."""


def home() -> Path:
    """$EDGE_BENCH_PEERS, or a folder in the user's cache."""
    given = os.environ.get("EDGE_BENCH_PEERS")
    cache = os.environ.get("XDG_CACHE_HOME")
    return Path(given) if given else (Path(cache) if cache else Path.home() / ".cache") / "edge-bench-peers"


def python_environment(name: str, *requirements: str) -> Path:
    """The interpreter of a virtual environment with the packages."""
    folder = home() / name
    python = folder / "bin" / "python"
    if not _is_done(folder, requirements):
        folder.mkdir(parents=True, exist_ok=True)
        _run([sys.executable, "-m", "venv", str(folder)])
        _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements])
        _done(folder, requirements)
    return python


def node_packages(name: str, *packages: str) -> Path:
    """A folder with the packages in its node_modules."""
    folder = home() / name
    if not _is_done(folder, packages):
        npm = shutil.which("npm")
        if npm is None:
            raise NotInstallable("npm is not installed")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text('{"private": true}')
        _run([npm, "install", "--no-fund", "--no-audit", "--loglevel=error", *packages], cwd=folder)
        _done(folder, packages)
    return folder


def node_version(folder: Path, package: str) -> str:
    return str(json.loads((folder / "node_modules" / package / "package.json").read_text())["version"])


def python_version(python: Path, package: str) -> str:
    code = f"import importlib.metadata; print(importlib.metadata.version({package!r}))"
    return subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def _is_done(folder: Path, wanted: tuple[str, ...]) -> bool:
    mark = folder / "installed.json"
    return mark.is_file() and json.loads(mark.read_text()) == list(wanted)


def _done(folder: Path, wanted: tuple[str, ...]) -> None:
    (folder / "installed.json").write_text(json.dumps(list(wanted)))


def _run(command: list[str], cwd: Path | None = None) -> None:
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=_INSTALL_S)
    except subprocess.TimeoutExpired:
        raise NotInstallable(f"{command[0]} did not end within {_INSTALL_S:.0f} s") from None
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise NotInstallable(f"{Path(command[0]).name} failed: {' '.join(last)}")
