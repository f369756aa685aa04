"""From a worker's folder to a version that can be loaded: configuration read, requirements installed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from edge_runtime.config.load import load_config
from edge_runtime.config.model import OffersClasses, PinsVersions, SectionReader, WorkerConfig
from edge_runtime.control import MakeTemplate
from edge_runtime.supervisor.data_dir import DataDirectory
from edge_runtime.supervisor.packages import install_requirements, site_folder
from edge_runtime.supervisor.report import Report
from edge_runtime.supervisor.worker_records import WorkerVersion

IGNORED_FOLDERS: Final = frozenset(
    {".edge", ".git", ".hg", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".venv", ".wrangler", "__pycache__"}
    | {"node_modules", "venv"}
)
"""Neither deployed nor watched: what tools put beside a worker's own files."""


async def read_version(
    folder: Path,
    directory: DataDirectory,
    kinds: Sequence[SectionReader],
    report: Report,
    *,
    environment: str | None,
    development: bool,
    version: str | None = None,
    variables: tuple[tuple[str, str], ...] = (),
) -> WorkerVersion:
    """Read what is in `folder` now and install what it requires.

    `version` names it; by default a fingerprint of the files does. Raises ConfigError and packages.InstallFailed.
    """
    config = load_config(folder, kinds, environment=environment)
    for warning in config.warnings:
        report.notice(f"{config.name}: {warning}")
    site = site_folder(config.requirements, directory.packages)
    if site is not None and not site.is_dir():
        report.notice(f"{config.name}: installing {', '.join(config.requirements)} into {site}")
        await install_requirements(config.requirements, directory.packages, report.notice)
    return WorkerVersion(
        config,
        MakeTemplate(
            worker=config.name,
            version=fingerprint(config.root) if version is None else version,
            config_file=str(config.file),
            environment=environment,
            data_dir=str(directory.path),
            development=development,
            site_dirs=() if site is None else (str(site),),
            preload=True,
            startup_cpu_ms=config.limits.startup_cpu_ms,
            variables=variables,
        ),
        tuple(_offered(config, kinds)),
        _pins(config, kinds),
    )


def _offered(config: WorkerConfig, kinds: Sequence[SectionReader]) -> Iterator[tuple[str, str, str]]:
    for kind in kinds:
        if isinstance(kind, OffersClasses):
            for binding in config.bindings:
                if binding.kind == kind.name:
                    yield from kind.offered(binding, config.name)


def _pins(config: WorkerConfig, kinds: Sequence[SectionReader]) -> bool:
    by_name = {kind.name: kind for kind in kinds if isinstance(kind, PinsVersions)}
    return any(by_name[binding.kind].pins(binding, config) for binding in config.bindings if binding.kind in by_name)


def walk(folder: Path, without: Path | None = None) -> Iterator[Path]:
    """The files of a worker below `folder`, in order of their paths; symbolic links and the folder `without` are left
    out."""
    for path in sorted(folder.iterdir()):
        if path.is_symlink() or path.name in IGNORED_FOLDERS or path == without:
            continue
        if path.is_dir():
            yield from walk(path, without)
        elif path.is_file():
            yield path


def fingerprint(folder: Path) -> str:
    """A name for the present state of a folder, from names, sizes and times of change; contents are not read."""
    digest = hashlib.sha256()
    for path in walk(folder):
        try:
            facts = path.stat()
        except FileNotFoundError:
            continue  # removed while we looked
        digest.update(os.fsencode(path.relative_to(folder)))
        digest.update(f"\0{facts.st_size}\0{facts.st_mtime_ns}\0".encode())
    return digest.hexdigest()[:16]
