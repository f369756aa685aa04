"""The files of an assets folder: opened without ever leaving it, their content and hashes remembered.

Each component of a name is opened beneath the one before and must not be a symbolic link, so neither ".." nor a link,
nor one that is put in place meanwhile, leads outside. Only the folder itself may be a link.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bindings.assets.globs import IgnoreRules
from bindings.assets.paths import is_servable
from edge_runtime.limits import ASSET_CACHE_BYTES, ASSET_CACHE_FILES, ASSET_CACHED_MAX, ASSET_READ, ASSET_RULES_FILE_MAX
from edge_runtime.seams import Offload

_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Not blocking: opening a FIFO must not hang. It has no effect on regular files."""


class AssetChanged(Exception):
    """The file became shorter while it was sent; what was promised cannot be kept."""


class Stamp(NamedTuple):
    """What tells one state of a file from the next without reading it."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int


class OpenFile:
    """A regular file, open for reading; closed by `close`, at the latest when nobody holds it any more."""

    __slots__ = ("_descriptor", "stamp")

    def __init__(self, descriptor: int, stamp: Stamp) -> None:
        self._descriptor = descriptor
        self.stamp = stamp

    def read(self, size: int, offset: int) -> bytes:
        return os.pread(self._descriptor, size, offset)

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class Known:
    """What is remembered of a file."""

    stamp: Stamp
    etag: str
    """Quoted, strong: a hash of the content."""
    content: bytes | None
    """Of files up to ASSET_CACHED_MAX."""


@dataclass(frozen=True, slots=True)
class Asset:
    """A file found for a request: known with its content, or open."""

    name: str
    known: Known | None
    file: OpenFile | None

    def close(self) -> None:
        if self.file is not None:
            self.file.close()


class AssetFolder:
    """One folder of assets. Names are absolute within it ("/a/b.txt") and decoded."""

    def __init__(self, root: Path, ignored: IgnoreRules) -> None:
        self._root = str(root)
        self._ignored = ignored
        self._known: OrderedDict[str, Known] = OrderedDict()
        self._cached_bytes = 0

    def find(self, name: str) -> Asset | None:
        """The file of that name; None if there is none that may be served. The caller closes it.

        A remembered file is found by its stamp alone: it is the file that was opened safely before.
        """
        if not is_servable(name) or self._ignored.ignores(name):
            return None
        try:
            found = os.lstat(self._root + name)
        except (OSError, ValueError):
            return None
        if not stat.S_ISREG(found.st_mode):
            return None
        known = self._known.get(name)
        if known is not None and known.stamp == _stamp(found):
            self._known.move_to_end(name)
            if known.content is not None:
                return Asset(name, known, None)
        file = open_beneath(self._root, name)
        if file is None:
            return None
        if known is not None and known.stamp == file.stamp:
            return Asset(name, known, file)
        return Asset(name, self._learn_small(name, file), file)

    async def learn(self, asset: Asset, offload: Offload) -> Known:
        """Read the file once, in a thread, to know its hash."""
        assert asset.file is not None
        return self._remember(asset.name, Known(asset.file.stamp, await offload(_hash, asset.file), None))

    def _learn_small(self, name: str, file: OpenFile) -> Known | None:
        if file.stamp.size > ASSET_CACHED_MAX:
            return None
        content = file.read(ASSET_CACHED_MAX + 1, 0)
        if len(content) != file.stamp.size:
            return None
        return self._remember(name, Known(file.stamp, _etag(hashlib.blake2b(content, digest_size=16)), content))

    def _remember(self, name: str, known: Known) -> Known:
        self._forget(name)
        self._known[name] = known
        self._cached_bytes += len(known.content or b"")
        while len(self._known) > ASSET_CACHE_FILES or self._cached_bytes > ASSET_CACHE_BYTES:
            self._forget(next(iter(self._known)))
        return known

    def _forget(self, name: str) -> None:
        known = self._known.pop(name, None)
        if known is not None:
            self._cached_bytes -= len(known.content or b"")


class Lookup:
    """The files looked at for one request, each once; `close` closes those that were not taken."""

    __slots__ = ("_folder", "_found")

    def __init__(self, folder: AssetFolder) -> None:
        self._folder = folder
        self._found: dict[str, Asset | None] = {}

    def exists(self, name: str) -> bool:
        if name not in self._found:
            self._found[name] = self._folder.find(name)
        return self._found[name] is not None

    def take(self, name: str) -> Asset:
        """A file that exists; the caller's from now on."""
        asset = self._found.pop(name)
        assert asset is not None
        return asset

    def close(self) -> None:
        for asset in self._found.values():
            if asset is not None:
                asset.close()


class FilePieces:
    """A part of an open file as a body, read ahead in threads."""

    __slots__ = ("_end", "_file", "_offload", "_offset")

    def __init__(self, file: OpenFile, start: int, end: int, offload: Offload) -> None:
        self._file = file
        self._offset = start
        self._end = end
        self._offload = offload

    async def receive(self) -> bytes | None:
        if self._offset >= self._end:
            self._file.close()
            return None
        piece = await self._offload(self._file.read, min(ASSET_READ, self._end - self._offset), self._offset)
        if not piece:
            self._file.close()
            raise AssetChanged(f"an asset ended after {self._offset} bytes; its length was {self._end}")
        self._offset += len(piece)
        return piece

    async def close(self) -> None:
        self._offset = self._end
        self._file.close()


def open_beneath(root: str, name: str) -> OpenFile | None:
    """The regular file `name` below the folder `root`; None for anything else."""
    try:
        descriptor = _walk(root, name[1:].split("/"))
    except (OSError, ValueError):
        return None
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        return None
    return OpenFile(descriptor, Stamp(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns))


def _stamp(found: os.stat_result) -> Stamp:
    return Stamp(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _walk(root: str, names: list[str]) -> int:
    folder = os.open(root, _FOLDER)
    try:
        for name in names[:-1]:
            below = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = below
        return os.open(names[-1], _FILE, dir_fd=folder)
    finally:
        os.close(folder)


def read_rules_file(root: Path, name: str) -> str:
    """A file of rules at the top of the folder, "" if there is none; what exceeds its bound is left out."""
    file = open_beneath(str(root), "/" + name)
    if file is None:
        return ""
    try:
        return file.read(ASSET_RULES_FILE_MAX, 0).decode("utf-8-sig", "replace")
    finally:
        file.close()


def _hash(file: OpenFile) -> str:
    digest = hashlib.blake2b(digest_size=16)
    offset = 0
    while piece := file.read(ASSET_READ, offset):
        digest.update(piece)
        offset += len(piece)
    return _etag(digest)


def _etag(digest: hashlib.blake2b) -> str:
    return f'"{digest.hexdigest()}"'
