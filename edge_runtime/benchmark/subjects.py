"""What is measured: a worker's folder as it is, or as it was in a revision of its git repository."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bindings.kind import load_kinds
from edge_runtime.config.load import load_config
from edge_runtime.config.model import WorkerConfig
from edge_runtime.errors import UsageError


@dataclass(frozen=True, slots=True)
class Subject:
    label: str
    """As it was asked for."""
    folder: Path
    config: WorkerConfig


@contextmanager
def subject(text: str, environment: str | None) -> Iterator[Subject]:
    """The worker that `text` names: DIR, or DIR@REVISION for the folder as it was in that revision, which is unpacked
    into a temporary folder for the time of the block.

    Raises UsageError, ConfigError.
    """
    path, at, revision = text.rpartition("@")
    if not at or Path(text).exists():
        yield _read(text, _folder(text), environment)
        return
    folder = _folder(path)
    root = Path(_git(folder, "rev-parse", "--show-toplevel").decode().strip())
    with TemporaryDirectory(prefix="edge-bench-") as temporary:
        archive = _git(root, "archive", "--format=tar", revision)
        with tarfile.open(fileobj=io.BytesIO(archive)) as unpacked:
            unpacked.extractall(temporary, filter="data")
        old = Path(temporary) / folder.resolve().relative_to(root.resolve())
        if not old.is_dir():
            raise UsageError(f"cannot measure {text}: revision {revision} has no folder {old.relative_to(temporary)}")
        yield _read(text, old, environment)


def _folder(text: str) -> Path:
    path = Path(text)
    if not path.is_dir():
        raise UsageError(f"cannot measure {text}: {path} is no folder; allowed: DIR or DIR@REVISION")
    return path


def _read(label: str, folder: Path, environment: str | None) -> Subject:
    return Subject(label, folder, load_config(folder, load_kinds(), environment=environment))


def _git(folder: Path, *arguments: str) -> bytes:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, check=False)
    except FileNotFoundError:
        raise UsageError("cannot read a revision: git is not installed") from None
    if done.returncode:
        complaint = done.stderr.decode(errors="replace").strip().removeprefix("fatal: ")
        raise UsageError(f"cannot read a revision in {folder}: git {arguments[0]} says: {complaint}")
    return done.stdout
