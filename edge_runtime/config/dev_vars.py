"""Secrets for local use, from `.dev.vars` or `.env` files beside the configuration.

The syntax is that of the dotenv package for Node, which wrangler uses: NAME=value lines, `export`, comments, values in
single, double or back quotes that may span lines, and `\\n` and `\\r` expanded in double quotes only. An unquoted value
ends at a `#`. Errors and warnings name the line and never show its content.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from edge_runtime.config.decode import warn
from edge_runtime.config.files import read_text
from edge_runtime.config.model import Secret, Where
from edge_runtime.errors import ConfigError

_NAME: Final = re.compile(r"[ \t]*(?:export[ \t]+)?(?P<name>[\w.-]+)(?:[ \t]*=|:[ \t])[ \t]*", re.ASCII)
_BLANK: Final = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|\Z)")
_QUOTED: Final = re.compile(r"(?P<quote>['\"`])(?P<text>(?:\\(?P=quote)|(?!(?P=quote)).)*)(?P=quote)", re.DOTALL)
_BARE: Final = re.compile(r"[^#\n]*")


def read_dev_vars(root: Path, environment: str | None, *, dot_env: bool = True) -> Mapping[str, Secret]:
    """The secrets for one environment of the worker in `root`.

    `.dev.vars.<environment>` stands in for `.dev.vars`. Only where neither exists are `.env`, `.env.local`,
    `.env.<environment>` and `.env.<environment>.local` read, later ones winning, unless `dot_env` is false.

    Raises:
        ConfigError: a file is unreadable, or a line is no assignment.
    """
    # A folder of this name is somebody's virtual environment.
    for name in [f".dev.vars.{environment}"] * (environment is not None) + [".dev.vars"]:
        if (root / name).is_file():
            return read_dotenv(root / name)
    found: dict[str, Secret] = {}
    suffixes = ["", ".local"] + [f".{environment}", f".{environment}.local"] * (environment is not None)
    for suffix in suffixes if dot_env else ():
        if (root / f".env{suffix}").is_file():
            found.update(read_dotenv(root / f".env{suffix}"))
    return found


def read_dotenv(file: Path) -> dict[str, Secret]:
    """Read one file; a name given twice has its last value, and a warning.

    Raises:
        ConfigError: a line is no assignment, or a quote does not end.
    """
    text = read_text(file).replace("\r\n", "\n").replace("\r", "\n")
    found: dict[str, Secret] = {}
    position = 0
    while position < len(text):
        if blank := _BLANK.match(text, position):
            position = blank.end()
            continue
        where = Where(str(file), f"line {text.count(chr(10), 0, position) + 1}")
        assignment = _NAME.match(text, position)
        if assignment is None:
            raise ConfigError(where.file, where.at, "no assignment", "NAME=value, # comment")
        name = assignment["name"]
        value, position = _value(text, assignment.end(), where / name)
        if name in found:
            warn(where / name, "given twice; the later value holds")
        found[name] = Secret(value)
    return found


def _value(text: str, start: int, where: Where) -> tuple[str, int]:
    """The value that begins at `start`, and where the next line begins."""
    if quoted := _QUOTED.match(text, start):
        rest = _BLANK.match(text, quoted.end())
        if rest is None:
            raise ConfigError(where.file, where.at, "text after the closing quote", "the end of the line or # comment")
        value = quoted["text"]
        if quoted["quote"] == '"':
            value = value.replace("\\n", "\n").replace("\\r", "\r")
        return value, rest.end()
    if text[start : start + 1] in ("'", '"', "`"):
        raise ConfigError(where.file, where.at, f"no closing {text[start]}", "a value whose quotes end")
    bare = _BARE.match(text, start)
    assert bare is not None, "the pattern matches nothing as well"
    end = _BLANK.match(text, bare.end())
    assert end is not None, "a bare value ends at a comment or the line's end"
    return bare.group().strip(), end.end()
