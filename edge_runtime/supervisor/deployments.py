"""Deployed versions on disk: `<deployments>/<worker>/<version>/` and, beside them, which of them is current.

A version's folder is complete whenever it exists, and never changes. `current` is replaced as a whole, after the
version it names has been seen to work; a server that starts serves what it names.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from edge_runtime.errors import StoreCorrupt
from edge_runtime.limits import DEPLOYMENTS_KEPT
from edge_runtime.supervisor.bundle import unpack, version_of

_CURRENT: Final = "current"
_INCOMING: Final = ".incoming"


class _Pointer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: str
    environment: str | None


@dataclass(frozen=True, slots=True)
class Deployment:
    worker: str
    version: str
    environment: str | None
    folder: Path


class Deployments:
    """All methods block on the disk: call them in a thread. One task at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def receive(self, bundle: bytes) -> tuple[str, Path]:
        """Unpack a bundle aside, to be looked at; returns its version and the folder. Raises BadBundle."""
        incoming = self._folder / _INCOMING
        if incoming.exists():
            shutil.rmtree(incoming)
        unpack(bundle, incoming)
        return version_of(bundle), incoming

    def keep(self, worker: str, version: str, environment: str | None) -> Deployment:
        """Give what was received its place under the worker's name. It is not current yet."""
        incoming = self._folder / _INCOMING
        folder = self._folder / worker / version
        if folder.exists():
            shutil.rmtree(incoming)
        else:
            folder.parent.mkdir(mode=0o700, exist_ok=True)
            # The files must be on disk before the name that says they are complete.
            os.sync()
            incoming.rename(folder)
            _sync_folder(folder.parent)
            _sync_folder(self._folder)
        return Deployment(worker, version, environment, folder)

    def make_current(self, deployment: Deployment) -> None:
        """From now on this version is the one that a start of the server restores. Old versions are removed."""
        folder = deployment.folder.parent
        new = folder / f".{_CURRENT}"
        with new.open("wb") as file:
            file.write(msgspec.json.encode(_Pointer(deployment.version, deployment.environment)))
            file.flush()
            os.fsync(file.fileno())
        new.rename(folder / _CURRENT)
        _sync_folder(folder)
        versions = [path for path in folder.iterdir() if path.is_dir() and path != deployment.folder]
        versions.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for old in versions[DEPLOYMENTS_KEPT - 1 :]:
            shutil.rmtree(old)

    def discard(self, deployment: Deployment) -> None:
        """Remove a version that turned out not to work, unless it is the current one."""
        pointer = self._pointer(deployment.worker)
        if pointer is None or pointer.version != deployment.version:
            shutil.rmtree(deployment.folder)
            if pointer is None:
                shutil.rmtree(deployment.folder.parent)

    def current(self) -> Iterator[Deployment]:
        """What is deployed, by name. Raises StoreCorrupt when a pointer leads nowhere."""
        for entry in sorted(self._folder.iterdir()):
            if entry.name == _INCOMING or not entry.is_dir():
                continue
            pointer = self._pointer(entry.name)
            if pointer is None:
                continue  # its first deployment was cut short
            folder = entry / pointer.version
            if not folder.is_dir():
                raise StoreCorrupt(f"{entry / _CURRENT} names version {pointer.version}, and {folder} is no folder")
            yield Deployment(entry.name, pointer.version, pointer.environment, folder)

    def _pointer(self, worker: str) -> _Pointer | None:
        file = self._folder / worker / _CURRENT
        try:
            return msgspec.json.decode(file.read_bytes(), type=_Pointer)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise StoreCorrupt(f"{file} cannot be read: {error}; deploy the worker again") from None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
