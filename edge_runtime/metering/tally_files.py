"""Tallies in files: what an isolate had charged when it was killed is added to the ledger by the next one.

DATA/usage/ISOLATE.tally, as long as that isolate lives, and longer if it is killed:

    head (4096 bytes):  magic; bytes of what follows (8 bytes of floating point); worker, version, isolate, and when
                        that began (ms since the epoch), as JSON
    segments:           see `metering.tally`

The memory is the file's, so the kernel keeps what a killed process had put there. Nobody waits for it to reach the
disk: a loss of power may take what the ledger does not have yet. Each portion is added to the ledger in the batch that
counts it (see `metering.ledger`), and what is counted is passed over here, so nothing is added twice.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_runtime.metering.tally import (
    SEGMENT_BYTES,
    SEGMENT_HEAD_BYTES,
    LeftRows,
    Owner,
    PrivateSegments,
    read_segment,
)

_log = logging.getLogger("edge.isolate")

_MAGIC: Final = b"edgetal1"
_HEAD_BYTES: Final = mmap.PAGESIZE
_OWNER_AT: Final = len(_MAGIC) + 8
_SUFFIX: Final = ".tally"


def tally_directory(data_dir: Path) -> Path:
    return data_dir / "usage"


class TallyFile:
    """`Segments` in the file of one isolate, which is made when the first is asked for.

    A segment for which the disk has no room is in memory of the process instead: a full disk stops nothing, and what
    is charged then is lost if the process is killed.
    """

    def __init__(self, directory: Path, owner: Owner) -> None:
        self._path = directory / f"{owner.isolate}{_SUFFIX}"
        self._owner = json.dumps(owner).encode()
        self._file = -1
        self._end = _HEAD_BYTES
        self._places: dict[int, int] = {}
        """Where in the file each segment is, by its identity."""
        self._free: list[int] = []
        self._private = PrivateSegments()

    def new(self, size: int) -> memoryview[int]:
        if size > SEGMENT_BYTES:
            return self._private.new(size)
        try:
            if self._file < 0:
                self._make()
            place = self._free[-1] if self._free else self._end
            # A hole would be filled, or fail to be, when it is written to, and that is a signal that kills.
            os.posix_fallocate(self._file, place, SEGMENT_BYTES)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            return self._private.new(size)
        segment = memoryview(mmap.mmap(self._file, SEGMENT_BYTES, offset=place))
        if self._free:
            self._free.pop()
        else:
            self._end += SEGMENT_BYTES
        segment[:SEGMENT_HEAD_BYTES] = bytes(SEGMENT_HEAD_BYTES)
        self._places[id(segment)] = place
        return segment

    def give_back(self, segment: memoryview[int]) -> None:
        place = self._places.pop(id(segment), None)
        if place is not None:
            self._free.append(place)

    def remove(self) -> None:
        """When everything is durable: there is nothing to be read any more."""
        if self._file >= 0:
            self._path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = -1

    def _make(self) -> None:
        self._path.parent.mkdir(mode=0o700, exist_ok=True)
        while True:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            # Of this process alone, and not of those that a script forks.
            fcntl.lockf(file, fcntl.LOCK_EX)
            if os.fstat(file).st_nlink:
                break
            os.close(file)  # somebody took it for a dead one's before it was locked
        try:
            os.posix_fallocate(file, 0, _HEAD_BYTES)
            os.pwrite(file, _MAGIC + struct.pack("=d", len(self._owner)) + self._owner, 0)
        except BaseException:
            self._path.unlink()
            os.close(file)
            raise
        self._file = file


@dataclass(frozen=True, slots=True)
class LeftTally:
    """What is in the file of an isolate, be it dead or not."""

    owner: Owner
    segments: list[LeftRows]
    """Those in use, by the number of their portion."""


def read_tallies(directory: Path) -> list[LeftTally]:
    """Those of all isolates, living ones included. To tell what of them is not in the ledger take a snapshot of it
    afterwards, not before."""
    found = []
    for path in _files(directory):
        with suppress(FileNotFoundError, ValueError):
            found.append(_decode(path.read_bytes()))
    return found


@contextmanager
def left_tally(path: Path) -> Iterator[LeftTally | None]:
    """What a dead isolate has left in one of `left_files`, for the caller alone; None if there is nothing, or it lives,
    or somebody else is at it. To be unlinked within, once it is durable."""
    with ExitStack() as stack:
        try:
            file = stack.enter_context(open(path, "r+b"))
        except FileNotFoundError:
            yield None
            return
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield None
            return
        data = file.read()
        if not data.rstrip(b"\0"):
            path.unlink(missing_ok=True)
            yield None
            return
        try:
            left = _decode(data)
        except ValueError as error:
            unreadable = path.with_suffix(".unreadable")
            _log.error("usage that an isolate left behind cannot be read (%s); kept as %s", error, unreadable)
            path.rename(unreadable)
            yield None
            return
        yield left


def left_files(directory: Path, own: str) -> list[Path]:
    """The files of all isolates but the own one: to open that would give up its lock."""
    return [path for path in _files(directory) if path.stem != own]


def _files(directory: Path) -> list[Path]:
    try:
        return sorted(path for path in directory.iterdir() if path.suffix == _SUFFIX)
    except FileNotFoundError:
        return []


def _decode(data: bytes) -> LeftTally:
    """Raises ValueError."""
    if data[: len(_MAGIC)] != _MAGIC:
        raise ValueError("it does not begin as a tally does")
    try:
        (length,) = struct.unpack_from("=d", data, len(_MAGIC))
        worker, version, isolate, since_ms = json.loads(data[_OWNER_AT : _OWNER_AT + int(length)])
        owner = Owner(str(worker), str(version), str(isolate), int(since_ms))
    except (struct.error, TypeError, OverflowError) as error:
        raise ValueError(str(error)) from None
    view = memoryview(data)
    segments = [read_segment(view[at : at + SEGMENT_BYTES]) for at in range(_HEAD_BYTES, len(data), SEGMENT_BYTES)]
    in_use = sorted((segment for segment in segments if segment.portion), key=lambda segment: segment.portion)
    return LeftTally(owner, in_use)
