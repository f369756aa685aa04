"""The LMDB environment of a data directory: opening, its format record, the marks of its processes, growth.

META holds, by key:

    ("format",)                     {"version": FORMAT, "engine": "lmdb 0.9"}
    ("open", boot, pid, started)    None: a process that has written and has not closed the store in order
    ("next id",)                    the next number for long_keys and chunks, eight bytes big-endian

A process's mark is written with its first commit and removed when it closes. A mark whose process is gone means a
crash: then opening verifies before anything is read. After the machine itself went down (another boot) or a commit
failed, every key of every table is read in order and every entry's form checked; after the death of a process alone,
which cannot hurt LMDB's copy-on-write pages, the ends of each table.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import lmdb

from edge_runtime.errors import StoreCorrupt, StoreError, StoreFailed, StoreFull
from edge_runtime.store import chunks, keys, long_keys, values
from edge_runtime.store.api import Table

FORMAT: Final = 4
ENGINE: Final = "lmdb 0.9"
NODES: Final = b"long_keys"

FORMAT_KEY: Final = keys.encode("format")
NEXT_ID_KEY: Final = keys.encode("next id")

_Result = TypeVar("_Result")

_FAILED_FILE: Final = "failed"
_DATA_FILE: Final = "data.mdb"


@dataclass(frozen=True, slots=True)
class Environment:
    """An open environment and the handles of its databases."""

    lmdb: Any
    tables: dict[Table, Any]
    nodes: Any
    path: Path


def open_environment(path: Path, *, readonly: bool, map_size: int) -> Environment | None:
    """Open, and when writing create, the environment in the directory `path`. Blocking.

    None if it is to be read and does not exist yet. Raises StoreError if it cannot be used as it is, StoreCorrupt if a
    verification found damage.
    """
    if readonly and not _has_pages(path / _DATA_FILE):
        return None
    is_new = not readonly and not os.path.exists(path / _DATA_FILE)
    made = [directory for directory in (path, *path.parents) if not directory.exists()] if is_new else []
    try:
        if is_new:
            path.mkdir(parents=True, exist_ok=True)
        env = lmdb.open(
            str(path),
            map_size=map_size,
            max_dbs=len(Table) + 1,
            max_readers=1024,
            readonly=readonly,
            create=not readonly,
            lib_version=0,
        )
    except (lmdb.Error, OSError) as error:
        raise StoreError(_opening_text(path, error)) from error
    try:
        environment = as_grown(env, lambda: _open_tables(env, path) if readonly else _make_tables(env, path))
        if environment is None:
            env.close()
            return None
        if is_new:
            _sync_directories(path, *(directory.parent for directory in made))
        if not readonly:
            env.reader_check()
            as_grown(env, partial(_verify_after_crash, environment))
    except BaseException:
        env.close()
        raise
    return environment


def as_grown(env: Any, attempt: Callable[[], _Result]) -> _Result:
    """Call `attempt`, again while it finds that another process has grown the map, which is adopted then.

    Nothing of this process may be reading: the map moves.
    """
    while True:
        try:
            return attempt()
        except lmdb.MapResizedError:
            env.set_mapsize(0)


@contextmanager
def translated(attempt: str) -> Iterator[None]:
    """Turn LMDB's errors while reading or opening into ours, but for a grown map: see `as_grown`."""
    try:
        yield
    except lmdb.MapResizedError:
        raise
    except lmdb.Error as error:
        raise_read_error(attempt, error)


def raise_read_error(attempt: str, error: Exception) -> NoReturn:
    damage = (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError, lmdb.PanicError)
    kind = StoreCorrupt if isinstance(error, damage) else StoreError
    raise kind(f"{attempt}: {error}") from error


def write_error(error: Exception) -> StoreFailed:
    """What an error during a commit means: nothing since can be trusted, a full disk at the sync included."""
    failed = StoreFailed(f"a commit failed, the store must be verified before it is written again: {error}")
    failed.__cause__ = error
    return failed


def is_disk_full(error: lmdb.Error) -> bool:
    return getattr(error, "code", 0) in (errno.ENOSPC, errno.EDQUOT)


def check_space(path: Path, needed: int) -> None:
    """Raise StoreFull unless the disk has `needed` bytes."""
    disk = os.statvfs(path)
    free = disk.f_bavail * disk.f_frsize
    if free < needed:
        raise StoreFull(f"the disk of {path} has {free} bytes left, a commit wants {needed}; free some space")


def own_mark() -> bytes:
    return keys.encode("open", _boot_id(), os.getpid(), _started(os.getpid()) or 0)


def note_failure(path: Path) -> None:
    """Leave word for the next opening that a commit failed, as far as the disk still takes it."""
    try:
        (path / _FAILED_FILE).touch()
    except OSError:
        # The process's mark is in the store or the disk takes nothing at all; either way this is only a hint.
        pass


def verify(environment: Environment, txn: Any, *, every_key: bool) -> int:
    """Check that the tables can be read, in order, in known forms; the number of entries seen.

    Raises StoreCorrupt naming table and key.
    """
    seen = 0
    for table, database in environment.tables.items():
        if table is Table.CHUNKS:
            continue
        seen += _verify_table(environment, txn, table, database, every_key)
    return seen


def _verify_table(environment: Environment, txn: Any, table: Table, database: Any, every_key: bool) -> int:
    seen = 0
    previous = b""
    key = b""
    try:
        for reverse in (False,) if every_key else (False, True):
            entries = long_keys.walk(txn, database, environment.nodes, b"", None, reverse=reverse, values=True)
            for key, entry in entries:
                if every_key and key <= previous:
                    raise StoreCorrupt(f"it does not sort after {previous!r}")
                chunks.check(txn, environment.tables[Table.CHUNKS], entry)
                previous = key
                seen += 1
                if not every_key:
                    break
    except (lmdb.Error, StoreCorrupt) as error:
        raise StoreCorrupt(f"{environment.path}: table {table}, at key {key!r}: {error}") from error
    return seen


def _open_tables(env: Any, path: Path) -> Environment | None:
    """The handles of a read-only environment; None if nobody has made its tables yet."""
    with translated(f"cannot read {path}"):
        try:
            meta = env.open_db(Table.META.encode(), create=False)
            with env.begin(meta) as txn:
                _check_format(path, txn.get(FORMAT_KEY))
            tables = {table: env.open_db(table.encode(), create=False) for table in Table}
            nodes = env.open_db(NODES, create=False)
        except lmdb.NotFoundError:
            return None
    return Environment(env, tables, nodes, path)


def _make_tables(env: Any, path: Path) -> Environment:
    """The handles of an environment, with the tables made that do not exist. Writes nothing if all do."""
    with translated(f"cannot open the tables of {path}"), env.begin(write=True) as txn:
        meta = env.open_db(Table.META.encode(), txn=txn)
        if txn.stat(meta)["entries"]:
            _check_format(path, txn.get(FORMAT_KEY, None, meta))
        else:
            txn.put(FORMAT_KEY, chunks.INLINE + values.encode({"version": FORMAT, "engine": ENGINE}), db=meta)
        tables = {table: env.open_db(table.encode(), txn=txn) for table in Table}
        nodes = env.open_db(NODES, txn=txn)
    return Environment(env, tables, nodes, path)


def _check_format(path: Path, record: bytes | None) -> None:
    if record is None:
        raise StoreCorrupt(f"{path} has tables but no format record")
    found = values.decode(record[1:])
    version = found.get("version") if isinstance(found, dict) else None
    if not isinstance(version, int):
        raise StoreCorrupt(f"the format record of {path} is {found!r}")
    if version < FORMAT:
        raise StoreError(
            f"{path} was written by a version of edge before the first release: its format is {version}, this version "
            f"reads {FORMAT}; choose another directory with --data"
        )
    if version > FORMAT:
        raise StoreError(
            f"{path} was written by a newer version of edge: its format is {version}, this version reads up to "
            f"{FORMAT}; upgrade edge or choose another directory with --data"
        )


def _verify_after_crash(environment: Environment) -> None:
    env, meta = environment.lmdb, environment.tables[Table.META]
    failed = environment.path / _FAILED_FILE
    with translated(f"cannot verify {environment.path}"), env.begin() as txn:
        start, end = keys.prefix_range("open")
        marks = [key for key, _ in long_keys.walk(txn, meta, meta, start, end, reverse=False, values=False)]
        gone = [mark for mark in marks if not _is_running(mark)]
        after_failure = failed.exists()
        if not gone and not after_failure:
            return
        boot = _boot_id()
        every_key = after_failure or any(keys.decode(mark)[1] != boot for mark in gone)
        verify(environment, txn, every_key=every_key)
    with translated(f"cannot write {environment.path}"), env.begin(write=True) as txn:
        for mark in gone:
            txn.delete(mark, db=meta)
    failed.unlink(missing_ok=True)


def _is_running(mark: bytes) -> bool:
    _, boot, pid, started = keys.decode(mark)
    return boot == _boot_id() and isinstance(pid, int) and _started(pid) == started


def _boot_id() -> str:
    return _read("/proc/sys/kernel/random/boot_id").strip()


def _started(pid: int) -> int | None:
    """When a process began, in the kernel's ticks since boot; None if it does not exist."""
    try:
        stat = _read(f"/proc/{pid}/stat")
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else int(fields[18])


def _read(file: str) -> str:
    """A small file of /proc, without the layers of `open`, which a freshly forked process would copy."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        return os.read(descriptor, 4096).decode(errors="replace")
    finally:
        os.close(descriptor)


def _has_pages(file: Path) -> bool:
    """Whether the file is there and not empty, as it is for a moment while it is created."""
    try:
        return file.stat().st_size > 0
    except (FileNotFoundError, NotADirectoryError):
        return False


def _sync_directories(*directories: Path) -> None:
    """Make the names in them durable; what the files hold LMDB syncs."""
    for directory in directories:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _opening_text(path: Path, error: Exception) -> str:
    if "already open in this process" in str(error):
        return f"{path} is open in this process already; share that store instead of opening another"
    if isinstance(error, (lmdb.VersionMismatchError, lmdb.InvalidError)):
        return f"{path} holds something else than a file of the engine {ENGINE}: {error}"
    return f"cannot open the store in {path}: {error}"
