"""Deployed versions on disk: `<deployments>/<worker>/<version>/` and, beside them, which of them is current.

A version's folder is complete whenever it exists, and never changes. `current` is replaced as a whole, after the
version it names has been seen to work; a server that starts serves what it names. `<version>.json` says for which
environment a version was deployed. Workers that are served from a folder have versions here, too, where workflow
instances are pinned to them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from edge_runtime.errors import StoreCorrupt
from edge_runtime.limits import DEPLOYMENTS_KEPT
from edge_runtime.supervisor.bundle import pack, unpack, version_of

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
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        self._write(_about(folder), _Pointer(version, environment))
        if folder.exists():
            shutil.rmtree(incoming)
            os.utime(folder)
        else:
            # The files must be on disk before the name that says they are complete.
            os.sync()
            incoming.rename(folder)
            _sync_folder(folder.parent)
            _sync_folder(self._folder)
        return Deployment(worker, version, environment, folder)

    def keep_copy(self, worker: str, folder: Path, environment: str | None, *, without: Path) -> Deployment:
        """Keep what is in a worker's folder now as a version; what is below `without` is no part of it."""
        version, _ = self.receive(pack(folder, without=without))
        return self.keep(worker, version, environment)

    def make_current(self, deployment: Deployment) -> None:
        """From now on this version is the one that a start of the server restores."""
        folder = deployment.folder.parent
        self._write(folder / _CURRENT, _Pointer(deployment.version, deployment.environment))

    def remove_old(self, worker: str, needed: Collection[str]) -> None:
        """Remove old versions, except the last few, the current one and those that are needed."""
        folder = self._folder / worker
        if not folder.is_dir():
            return
        pointer = self._pointer(worker)
        kept = {*needed, *(() if pointer is None else (pointer.version,))}
        versions = [path for path in folder.iterdir() if path.is_dir()]
        versions.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for old in versions[DEPLOYMENTS_KEPT:]:
            if old.name not in kept:
                _remove(old)

    def find(self, worker: str, version: str) -> Deployment | None:
        """A version that is kept."""
        folder = self._folder / worker / version
        if not folder.is_dir():
            return None
        about = self._read(_about(folder))
        return Deployment(worker, version, None if about is None else about.environment, folder)

    def _write(self, file: Path, pointer: _Pointer) -> None:
        new = file.with_name(f".{file.name}")
        with new.open("wb") as opened:
            opened.write(msgspec.json.encode(pointer))
            opened.flush()
            os.fsync(opened.fileno())
        new.rename(file)
        _sync_folder(file.parent)

    def discard(self, deployment: Deployment, needed: Collection[str] = ()) -> None:
        """Remove a version that turned out not to work, unless it is the current one or needed."""
        pointer = self._pointer(deployment.worker)
        if deployment.version in needed:
            return
        if pointer is None or pointer.version != deployment.version:
            _remove(deployment.folder)
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
        return self._read(self._folder / worker / _CURRENT)

    def _read(self, file: Path) -> _Pointer | None:
        try:
            return msgspec.json.decode(file.read_bytes(), type=_Pointer)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise StoreCorrupt(f"{file} cannot be read: {error}; deploy the worker again") from None


def _about(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.json")


def _remove(folder: Path) -> None:
    shutil.rmtree(folder)
    _about(folder).unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
