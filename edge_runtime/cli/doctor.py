"""`edge doctor`: what this machine offers, and whether a data directory is sound."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import click

from edge_runtime.cli.options import json_option
from edge_runtime.cli.tables import print_rows

_DISK_FREE_MIN_MB = 1024
_DESCRIPTORS_MIN = 4096
_EXTRA = re.compile(r"""\bextra == ['"]([^'"]+)['"]""")


@click.command()
@click.option(
    "--data",
    "data_dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="Check this directory too.",
)
@json_option
def doctor(data_dir: Path | None, as_json: bool) -> None:
    """Check this machine and, with --data, a data directory. Exits with 1 if something is wrong."""
    rows = [*_machine(), *_packages(), *(_data(data_dir) if data_dir is not None else ())]
    print_rows(
        ("check", "found", "verdict"),
        [{"check": check, "found": found, "verdict": wrong or "ok"} for check, found, wrong in rows],
        as_json=as_json,
    )
    if any(wrong for _, _, wrong in rows):
        raise SystemExit(1)


Check = tuple[str, str, str]
"""What was looked at, what was found, and what is wrong with it ("" if nothing)."""


def _machine() -> Iterator[Check]:
    import resource

    yield "Python", platform.python_version(), "" if sys.version_info >= (3, 11) else "3.11 or later is needed"
    kernel = platform.release()
    yield "system", f"{platform.system()} {kernel}", "" if sys.platform == "linux" else "Linux is needed"
    yield "pidfd", "present" if hasattr(os, "pidfd_open") else "absent", "" if _pidfd_works() else "not usable here"
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    few = "" if limit >= _DESCRIPTORS_MIN else f"fewer than {_DESCRIPTORS_MIN} connections at a time"
    yield "open files", str(limit), few


def _pidfd_works() -> bool:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False
    return True


def _packages() -> Iterator[Check]:
    for requirement in requires("edge-runtime") or ():
        name, _, condition = (part.strip() for part in requirement.partition(";"))
        for end in "<>=!~[ ":
            name = name.split(end)[0]
        try:
            yield name, version(name), ""
        except PackageNotFoundError:
            extra = _EXTRA.search(condition)
            yield (name, f"absent; extra {extra[1]}", "") if extra else (name, "absent", "install it")


def _data(data_dir: Path) -> Iterator[Check]:
    if not data_dir.is_dir():
        yield "data directory", str(data_dir), "does not exist"
        return
    free_mb = shutil.disk_usage(data_dir).free // 2**20
    yield "free disk", f"{free_mb} MB", "" if free_mb >= _DISK_FREE_MIN_MB else f"less than {_DISK_FREE_MIN_MB} MB"
    if (data_dir / "store").is_dir():
        yield _store(data_dir / "store")


def _store(path: Path) -> Check:
    import trio

    from edge_runtime.errors import StoreError
    from edge_runtime.store.api import Table
    from edge_runtime.store.lmdb_store import open_store

    async def count() -> int:
        async with open_store(path, readonly=True) as store:
            with store.snapshot() as snapshot:
                return sum(1 for table in Table for _ in snapshot.scan(table))

    try:
        return "store", f"{trio.run(count)} records read", ""
    except StoreError as error:
        return "store", str(path), str(error)
