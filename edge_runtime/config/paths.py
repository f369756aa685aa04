"""Paths named in a configuration: relative to its file, and never outside the worker's folder."""

from __future__ import annotations

from pathlib import Path

from edge_runtime.config.files import absolute
from edge_runtime.config.model import Where
from edge_runtime.config.wording import quoted
from edge_runtime.errors import ConfigError


def path_inside(text: str, where: Where) -> Path:
    """The absolute path that `text` means, symbolic links kept; it need not exist.

    A deployment is a copy of the worker's folder, so whatever leaves it, by `..` or by a link, is refused.

    Args:
        where: the place of `text`; its file gives the folder.
    Raises:
        ConfigError: the path leaves the folder, or can be no path.
    """
    root = Path(where.file).parent
    allowed = f"a path inside {root}"
    path = absolute(root / text)
    if not text or not path.is_relative_to(root):
        raise ConfigError(where.file, where.at, quoted(text), allowed)
    try:
        resolved = path.resolve()
        if not resolved.is_relative_to(root.resolve()):
            found = f"{quoted(text)}, a link to {resolved}"
            raise ConfigError(where.file, where.at, found, allowed)
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(where.file, where.at, f"{quoted(text)} ({error})", allowed) from None
    return path
