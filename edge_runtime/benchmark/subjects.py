"""What is measured: a worker's folder as it is, or as it was in a revision of its git repository."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bindings.kind import load_kinds
from edge_runtime.config.load import load_config
from edge_runtime.config.model import WorkerConfig
from edge_runtime.errors import ConfigError, UsageError

_UNTRACKED: Final = (".dev.vars*", ".env*")


@dataclass(frozen=True, slots=True)
class Subject:
    label: str
    """As it was asked for."""
    folder: Path
    config: WorkerConfig


@contextmanager
def subject(text: str, environment: str | None) -> Iterator[Subject]:
    """The worker that `text` names: DIR, or DIR@REVISION for the folder as it was in that revision, which is unpacked
    into a temporary folder for the time of the block. Secrets beside the folder's configuration, which git does not
    have, are those of today.

    Raises UsageError, ConfigError.
    """
    path, at, revision = text.rpartition("@")
    if not at or Path(text).exists():
        yield _read(text, _folder(text), environment)
        return
    folder = _folder(path)
    root = Path(_git(text, folder, "rev-parse", "--show-toplevel").decode().strip())
    commit = _commit(text, root, revision)
    with TemporaryDirectory(prefix="edge-bench-") as temporary:
        archive = _git(text, root, "archive", "--format=tar", commit)
        with tarfile.open(fileobj=io.BytesIO(archive)) as unpacked:
            unpacked.extractall(temporary, filter=_inside)
        inside = folder.resolve().relative_to(root.resolve())
        old = Path(temporary) / inside
        if not old.is_dir():
            raise UsageError(f"cannot measure {text}: revision {revision} has no folder {inside}")
        for pattern in _UNTRACKED:
            for secrets in folder.glob(pattern):
                if secrets.is_file() and not (old / secrets.name).exists():
                    shutil.copy(secrets, old)
        try:
            found = _read(text, old, environment)
        except ConfigError as error:
            place = error.file.replace(temporary, f"{root}@{revision}", 1)
            raise ConfigError(place, error.at, error.found, error.allowed) from None
        yield found


def _commit(text: str, root: Path, revision: str) -> str:
    try:
        # An empty one would be taken for HEAD's tree.
        name = f"{revision or '(empty)'}^{{commit}}"
        return _git(text, root, "rev-parse", "--verify", "--quiet", "--end-of-options", name).decode().strip()
    except UsageError:
        raise UsageError(
            f'cannot measure {text}: the repository {root} has no revision "{revision}"; allowed: what git log takes, '
            "such as a branch, a tag, HEAD~1 or a commit's hash"
        ) from None


def _inside(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo | None:
    """Links that lead out of the repository are left out; a worker does not need them to be served from elsewhere."""
    try:
        return tarfile.data_filter(member, folder)
    except tarfile.FilterError:
        return None


def _folder(text: str) -> Path:
    path = Path(text)
    if not path.is_dir():
        raise UsageError(f"cannot measure {text}: {path} is no folder; allowed: DIR or DIR@REVISION")
    return path


def _read(label: str, folder: Path, environment: str | None) -> Subject:
    return Subject(label, folder, load_config(folder, load_kinds(), environment=environment))


def _git(text: str, folder: Path, *arguments: str) -> bytes:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, check=False)
    except FileNotFoundError:
        raise UsageError(f"cannot measure {text}: git is not installed") from None
    if done.returncode:
        complaint = done.stderr.decode(errors="replace").strip().removeprefix("fatal: ")
        raise UsageError(f"cannot measure {text}: git {arguments[0]} says: {complaint}")
    return done.stdout
