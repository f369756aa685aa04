"""Third-party packages that a worker needs: `[project] dependencies` of the pyproject.toml beside its configuration.

Dependency groups are tools for development and not installed.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import msgspec

from edge_runtime.config.decode import decode
from edge_runtime.config.files import read_text, read_toml
from edge_runtime.config.model import Where
from edge_runtime.config.wording import quoted
from edge_runtime.errors import ConfigError

_PROVIDED: Final = frozenset({"workers-py", "workers-runtime-sdk"})
"""Cloudflare's tooling: the first is a command for development, the second is the `workers` module, which is ours."""
_NAME: Final = re.compile(r"\s*(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(?=$|[\[(<>=!~;@])")


class _Project(msgspec.Struct, frozen=True):
    dependencies: list[str] = []


def read_requirements(root: Path) -> tuple[str, ...]:
    """The requirements as written (PEP 508), in order, each once; empty without a pyproject.toml.

    Raises:
        ConfigError: the file is unreadable, or an entry does not begin with a package's name.
    """
    file = root / "pyproject.toml"
    if not file.is_file():
        return ()
    project = read_toml(file, read_text(file)).get("project", {})
    where = Where(str(file)) / "project"
    if not isinstance(project, dict):
        raise ConfigError(where.file, where.at, "no table", "the table [project]")
    # Only this key is decoded: the others are other tools' business, and not warned of.
    given = decode({key: project[key] for key in project if key == "dependencies"}, _Project, where).dependencies
    found: dict[str, None] = {}
    for index, text in enumerate(given):
        match = _NAME.match(text)
        if match is None or not text.isprintable():
            at = (where / "dependencies" / index).at
            raise ConfigError(where.file, at, quoted(text), 'a requirement such as "httpx>=0.27"')
        if re.sub(r"[-_.]+", "-", match["name"]).lower() not in _PROVIDED:
            found[text.strip()] = None
    return tuple(found)
