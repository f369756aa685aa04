"""Finding a worker's configuration file and reading it to plain data: tables, lists, text, numbers, booleans, null."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path

from edge_runtime.config import jsonc
from edge_runtime.config.decode import warn
from edge_runtime.config.model import JsonValue, Where
from edge_runtime.config.wording import names, shown
from edge_runtime.errors import ConfigError
from edge_runtime.limits import CONFIG_BYTES_MAX, CONFIG_DEPTH_MAX

CONFIG_NAMES = ("wrangler.json", "wrangler.jsonc", "wrangler.toml")
"""In wrangler's order of precedence."""


def find_config(path: Path) -> Path:
    """The configuration file of a worker's folder, absolute; a file is taken as it is.

    Raises:
        ConfigError: there is none.
    """
    path = absolute(path)
    if path.is_dir():
        present = [path / name for name in CONFIG_NAMES if (path / name).is_file()]
        if not present:
            raise ConfigError(str(path), "", "no configuration", f"a folder with {names(CONFIG_NAMES)}")
        if len(present) > 1:
            left_out = names(other.name for other in present[1:])
            warn(Where(str(present[0])), f"this file is used, and {left_out} beside it is not")
        return present[0]
    if path.suffix not in (".json", ".jsonc", ".toml"):
        found = f"a file named {path.name}" if path.exists() else "nothing there"
        raise ConfigError(str(path), "", found, "a worker's folder, or a .json, .jsonc or .toml file")
    return path


def read_config(file: Path) -> dict[str, JsonValue]:
    """The content of a .toml, .json or .jsonc file.

    Raises:
        ConfigError: it cannot be read or parsed (with line and column), or is no table.
    """
    text = read_text(file)
    try:
        value = read_toml(file, text) if file.suffix == ".toml" else _read_jsonc(file, text)
    except RecursionError:
        raise _too_deep(file) from None
    plain = _plain(value, Where(str(file)), 0)
    if not isinstance(plain, dict):
        raise ConfigError(str(file), "", shown(plain), "a table of keys at the top")
    return plain


def read_text(file: Path) -> str:
    """The content of a small UTF-8 file, with or without byte order mark.

    Raises:
        ConfigError: unreadable, too large, or not UTF-8.
    """
    try:
        if not file.is_file():
            found = "no regular file" if file.exists() else "no such file"
            raise ConfigError(str(file), "", found, "a readable file")
        with file.open("rb") as stream:
            content = stream.read(CONFIG_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError(str(file), "", reason, "a readable file") from None
    if len(content) > CONFIG_BYTES_MAX:
        raise ConfigError(str(file), "", f"more than {CONFIG_BYTES_MAX} bytes", f"at most {CONFIG_BYTES_MAX} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        found = f"the byte 0x{content[error.start]:02x} in line {line}"
        raise ConfigError(str(file), "", found, "text in UTF-8") from None


def read_toml(file: Path, text: str) -> dict[str, object]:
    """Parse TOML; ConfigError with line and column."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message, _, place = str(error).rpartition(" (at ")
        at = place.rstrip(")")
        if at == "end of document":
            at = _place(text, len(text))
        raise ConfigError(str(file), at, message or "an error", "valid TOML") from None
    except RecursionError:
        raise _too_deep(file) from None
    except ValueError as error:
        raise ConfigError(str(file), "", str(error), "valid TOML") from None


def absolute(path: Path) -> Path:
    """The path made absolute, without `..`, its symbolic links kept; ConfigError for what can be no path."""
    try:
        made = Path(path).absolute()
        return Path(*made.parts[:1], *_folded(made.parts[1:]))
    except (OSError, ValueError) as error:
        raise ConfigError(repr(str(path)), "", str(error), "a path") from None


def _folded(parts: tuple[str, ...]) -> list[str]:
    kept: list[str] = []
    for part in parts:
        if part == "..":
            del kept[-1:]
        else:
            kept.append(part)
    return kept


def _read_jsonc(file: Path, text: str) -> object:
    try:
        return jsonc.parse(text)
    except jsonc.JsoncError as error:
        raise ConfigError(str(file), _place(text, error.position), error.found, error.allowed) from None


def _place(text: str, position: int) -> str:
    line, column = text.count("\n", 0, position) + 1, position - text.rfind("\n", 0, position)
    return f"line {line}, column {column}"


def _plain(value: object, where: Where, depth: int) -> JsonValue:
    """Check that a parsed value is one that JSON can hold."""
    if depth > CONFIG_DEPTH_MAX:
        raise _too_deep(Path(where.file))
    match value:
        case None | bool():
            return value
        case int() if value.bit_length() <= 1024:
            return value
        case str():
            return _text(value, where)
        case float() if math.isfinite(value):
            return value
        case list():
            return [_plain(inner, where / index, depth + 1) for index, inner in enumerate(value)]
        case dict():
            return {_text(key, where): _plain(inner, where / key, depth + 1) for key, inner in value.items()}
        case int() | float():
            raise ConfigError(where.file, where.at, shown(value), "a number that fits a 64-bit float")
        case _:
            raise ConfigError(where.file, where.at, shown(value), "a string in quotes, for dates too")


def _text(text: str, where: Where) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigError(where.file, where.at, "half of a surrogate pair", "text that UTF-8 can hold") from None
    return text


def _too_deep(file: Path) -> ConfigError:
    return ConfigError(str(file), "", "deeper nesting", f"at most {CONFIG_DEPTH_MAX} levels")
