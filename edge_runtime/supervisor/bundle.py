"""A worker's folder as one piece of bytes: a gzipped tar whose bytes depend on nothing but names and contents.

Unpacking trusts nothing: regular files only, with plain relative names, within bounds of number and size.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, Final

from edge_runtime.errors import LimitExceeded, UsageError
from edge_runtime.limits import BUNDLE_FILES_MAX, BUNDLE_MAX, BUNDLE_UNPACKED_MAX
from edge_runtime.supervisor.sources import walk

_COMPRESSION: Final = 6
_SECRETS: Final = ".dev.vars"
_PIECE: Final = 1024 * 1024


class BadBundle(UsageError):
    """What was sent is not a bundle made by `pack`."""


def pack(folder: Path, *, without: Path | None = None) -> bytes:
    """The files of a worker, secrets of `.dev.vars` included; symbolic links, what tools leave behind and what is below
    `without` are not.

    Raises LimitExceeded, before everything is read, when that is too much.
    """
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=_COMPRESSION, mtime=0) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for count, path in enumerate(walk(folder, without), 1):
            if count > BUNDLE_FILES_MAX:
                raise LimitExceeded(f"files in {folder}", count, BUNDLE_FILES_MAX, "files")
            with path.open("rb") as file:
                entry = tarfile.TarInfo(path.relative_to(folder).as_posix())
                entry.size = os.fstat(file.fileno()).st_size
                entry.mode = 0o600 if path.name.startswith(_SECRETS) else 0o644
                archive.addfile(entry, file)
            if buffer.tell() > BUNDLE_MAX:
                raise LimitExceeded(f"the packed size of {folder}", buffer.tell(), BUNDLE_MAX, "bytes")
    return buffer.getvalue()


def version_of(bundle: bytes) -> str:
    """The version that a bundle is: a hash of its content."""
    return hashlib.sha256(bundle).hexdigest()[:20]


def unpack(bundle: bytes, folder: Path) -> None:
    """Write a bundle's files below `folder`, which must not exist yet. On an error the folder may be left incomplete.

    Raises BadBundle, LimitExceeded, OSError.
    """
    folder.mkdir(parents=True)
    seen: set[PurePosixPath] = set()
    left = BUNDLE_UNPACKED_MAX
    try:
        with tarfile.open(fileobj=io.BytesIO(bundle), mode="r|gz") as archive:
            for entry in archive:
                path = _checked(entry, seen)
                if len(seen) > BUNDLE_FILES_MAX:
                    raise LimitExceeded("files in the bundle", len(seen), BUNDLE_FILES_MAX, "files")
                if entry.size > left:
                    used = BUNDLE_UNPACKED_MAX - left + entry.size
                    raise LimitExceeded("the unpacked size of the bundle", used, BUNDLE_UNPACKED_MAX, "bytes")
                left -= entry.size
                content = archive.extractfile(entry)
                assert content is not None, "a regular file has content"
                _write(folder / path, content, entry.size)
    except (tarfile.TarError, zlib.error, EOFError, gzip.BadGzipFile, ValueError) as error:
        raise BadBundle(f"the bundle cannot be unpacked: {error}") from None
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise BadBundle("the bundle holds a file and a folder of the same name") from None
    if not seen:
        raise BadBundle("the bundle is empty")


def _checked(entry: tarfile.TarInfo, seen: set[PurePosixPath]) -> PurePosixPath:
    name = entry.name
    path = PurePosixPath(name)
    if not entry.isreg():
        raise BadBundle(f"the bundle holds {name!r}, which is no regular file")
    plain = "\\" not in name and "\0" not in name and path.as_posix() == name
    if not plain or path.is_absolute() or ".." in path.parts or not path.parts:
        raise BadBundle(f"the bundle holds a file named {name!r}; allowed: plain relative paths")
    if path in seen:
        raise BadBundle(f"the bundle holds {name!r} twice")
    seen.add(path)
    return path


def _write(path: Path, content: IO[bytes], size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = 0o600 if path.name.startswith(_SECRETS) else 0o644
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with open(descriptor, "wb") as file:
        while size > 0:
            piece = content.read(min(size, _PIECE))
            if not piece:
                raise BadBundle("the bundle ends early")
            file.write(piece)
            size -= len(piece)
