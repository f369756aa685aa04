"""Reading a worker's configuration: the wrangler file, one of its environments, its secrets and its requirements."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar

import msgspec

from edge_runtime.config import cron
from edge_runtime.config.decode import collecting_warnings, decode, warn
from edge_runtime.config.environments import Settings, select
from edge_runtime.config.files import find_config, read_config
from edge_runtime.config.model import Binding, NoticesAbsence, SectionReader, WorkerConfig, WorkerLimits
from edge_runtime.config.paths import path_inside
from edge_runtime.config.requirements import read_requirements
from edge_runtime.config.routes import decode_routes
from edge_runtime.config.variables import read_variables
from edge_runtime.config.wording import quoted
from edge_runtime.errors import ConfigError
from edge_runtime.limits import (
    BLOCKED_MS_DEFAULT,
    BLOCKED_MS_MAX,
    BLOCKED_MS_MIN,
    CPU_MS_DEFAULT,
    CPU_MS_MAX,
    INSTANCES_MAX,
    MEMORY_MB_DEFAULT,
    MEMORY_MB_MAX,
    MEMORY_MB_MIN,
    STARTUP_CPU_MS_DEFAULT,
    STARTUP_CPU_MS_MAX,
    SUBREQUESTS_DEFAULT,
    SUBREQUESTS_MAX,
    WORKER_NAME_MAX,
)

COMPATIBILITY_DATE_DEFAULT: Final = "2026-08-20"
"""For files without a date: fixed, so that a worker does not change by itself. The newest behaviour known here."""

_NAME: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_NAME_WORDS: Final = "lower-case letters, digits, - and _, no - at either end"

T = TypeVar("T")


class _Limits(msgspec.Struct, frozen=True):
    cpu_ms: Annotated[int, msgspec.Meta(ge=1, le=CPU_MS_MAX)] = CPU_MS_DEFAULT
    subrequests: Annotated[int, msgspec.Meta(ge=1, le=SUBREQUESTS_MAX)] = SUBREQUESTS_DEFAULT


class _Edge(msgspec.Struct, frozen=True):
    flavour: Literal["trio", "asyncio"] | None = None
    blocked_ms: Annotated[int, msgspec.Meta(ge=BLOCKED_MS_MIN, le=BLOCKED_MS_MAX)] = BLOCKED_MS_DEFAULT
    drift: Literal["strict", "lenient"] = "strict"
    workflow_version: Literal["newest", "pinned"] = "newest"
    memory_mb: Annotated[int, msgspec.Meta(ge=MEMORY_MB_MIN, le=MEMORY_MB_MAX)] = MEMORY_MB_DEFAULT
    instances: Annotated[int, msgspec.Meta(ge=1, le=INSTANCES_MAX)] = 1
    http1: Literal["llhttp", "hypercorn"] = "llhttp"
    startup_cpu_ms: Annotated[int, msgspec.Meta(ge=1, le=STARTUP_CPU_MS_MAX)] = STARTUP_CPU_MS_DEFAULT


class _Triggers(msgspec.Struct, frozen=True):
    crons: list[str] | None = None


def load_config(path: Path, kinds: Sequence[SectionReader], *, environment: str | None = None) -> WorkerConfig:
    """Read and validate everything that configures one worker.

    Args:
        path: the worker's folder, or the wrangler file itself.
        kinds: read the sections of bindings.
        environment: the name of a section `env.NAME`; None for the top level.
    Raises:
        ConfigError: a value is wrong, a file is missing or unreadable. What is merely unknown, or has no effect, is
            in `warnings` of the result.
    """
    with collecting_warnings() as warnings:
        file = find_config(path)
        raw = read_config(file)
        settings = select(
            raw, environment, frozenset(section for kind in kinds for section in kind.sections), str(file)
        )
        name = _name(settings, environment)
        flags = _flags(settings)
        edge = _table(settings, "edge", _Edge)
        limits = _table(settings, "limits", _Limits)
        bindings = _bindings(settings, kinds, name)
        variables, secrets = read_variables(settings, file.parent, environment, bindings)
        return WorkerConfig(
            name=name,
            environment=environment,
            file=file,
            root=file.parent,
            main=_main(settings),
            compatibility_date=_compatibility_date(settings),
            compatibility_flags=flags,
            flavour=edge.flavour or ("asyncio" if "python_workers" in flags else "trio"),
            vars=variables,
            secrets=secrets,
            bindings=bindings,
            crons=_crons(settings),
            routes=decode_routes(settings.values.get("route"), settings.values.get("routes"), settings.where),
            limits=WorkerLimits(
                limits.cpu_ms,
                limits.subrequests,
                edge.blocked_ms,
                edge.memory_mb,
                edge.instances,
                edge.startup_cpu_ms,
            ),
            drift=edge.drift,
            workflow_version=edge.workflow_version,
            http1=edge.http1,
            requirements=read_requirements(file.parent),
            # Evaluated last: all of the above may warn.
            warnings=tuple(dict.fromkeys(warnings)),
        )


def _name(settings: Settings, environment: str | None) -> str:
    where = settings.where / "name"
    if "name" not in settings.values:
        raise ConfigError(where.file, where.at, "nothing", "the worker's name: " + _NAME_WORDS)
    name = decode(settings.values["name"], str, where)
    if environment is not None and not settings.named:
        name = f"{name}-{environment}"
    if not _NAME.fullmatch(name) or len(name) > WORKER_NAME_MAX:
        raise ConfigError(where.file, where.at, quoted(name), f"at most {WORKER_NAME_MAX} of {_NAME_WORDS}")
    return name


def _main(settings: Settings) -> Path | None:
    where = settings.where / "main"
    if "main" not in settings.values:
        if settings.values.get("assets"):
            return None
        raise ConfigError(where.file, where.at, "nothing", "the path of the worker's script, or a section assets")
    text = decode(settings.values["main"], str, where)
    path = path_inside(text, where)
    if path.suffix != ".py":
        raise ConfigError(where.file, where.at, quoted(text), "a Python script (.py)")
    if not path.is_file():
        found = "that is no file" if path.exists() else "which does not exist"
        raise ConfigError(
            where.file, where.at, f"{quoted(text)}, {found}", "the path of a script, from the folder of this file"
        )
    return path


def _compatibility_date(settings: Settings) -> str:
    where = settings.where / "compatibility_date"
    if "compatibility_date" not in settings.values:
        warn(where, f"missing; {COMPATIBILITY_DATE_DEFAULT} is used")
        return COMPATIBILITY_DATE_DEFAULT
    text = decode(settings.values["compatibility_date"], str, where)
    try:
        if not _DATE.fullmatch(text):
            raise ValueError
        date.fromisoformat(text)
    except ValueError:
        raise ConfigError(where.file, where.at, quoted(text), 'a date such as "2026-08-20"') from None
    return text


def _flags(settings: Settings) -> frozenset[str]:
    return frozenset(
        decode(settings.values.get("compatibility_flags", []), list[str], settings.where / "compatibility_flags")
    )


def _table(settings: Settings, key: str, type: type[T]) -> T:
    return decode(settings.values.get(key, {}), type, settings.where / key)


def _crons(settings: Settings) -> tuple[str, ...]:
    where = settings.where / "triggers" / "crons"
    found: dict[str, None] = {}
    for index, text in enumerate(_table(settings, "triggers", _Triggers).crons or ()):
        at = where / index
        try:
            expression = cron.parse(text)
        except cron.CronError as error:
            found_there = f"{quoted(text)}, character {error.position + 1}: {error.found}"
            raise ConfigError(at.file, at.at, found_there, error.allowed) from None
        if text in found:
            warn(at, f"{quoted(text)} stands here already; it fires once")
        if not expression.ever:
            warn(at, f"{quoted(text)} never fires: no month has such a day")
        found[text] = None
    return tuple(found)


def _bindings(settings: Settings, kinds: Sequence[SectionReader], worker: str) -> tuple[Binding, ...]:
    found: list[Binding] = []
    seen: dict[str, str] = {}
    for kind in kinds:
        present = {key: settings.values[key] for key in kind.sections if settings.values.get(key) is not None}
        if not present:
            if isinstance(kind, NoticesAbsence):
                found += kind.absent(worker, settings.where)
            continue
        for binding in kind.parse(present, worker, settings.where):
            if binding.name:
                if binding.name in seen:
                    twice = f"env.{binding.name} twice ({seen[binding.name]} and {kind.name})"
                    raise ConfigError(settings.where.file, settings.where.at, twice, "one binding of each name")
                seen[binding.name] = kind.name
            found.append(binding)
    return tuple(found)
