"""Which file answers which path: the `html_handling` and `not_found_handling` settings. Pure.

For each setting a table says what to try, by how the path ends. Source: workers-shared asset-worker.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

HtmlHandling = Literal["auto-trailing-slash", "force-trailing-slash", "drop-trailing-slash", "none"]
NotFoundHandling = Literal["single-page-application", "404-page", "none"]


@dataclass(frozen=True, slots=True)
class Serve:
    """Answer with this file."""

    file: str
    status: int = 200


@dataclass(frozen=True, slots=True)
class Redirect:
    """The file that is meant has its address elsewhere; `to` is a decoded path."""

    to: str


@dataclass(frozen=True, slots=True)
class _At:
    """Try the file whose name is the path without its ending, then this."""

    file: str


@dataclass(frozen=True, slots=True)
class _Moved:
    """If this file exists and is what `to` answers with, send the client there."""

    file: str
    to: str


_Rows = tuple[tuple[str, tuple[_At | _Moved, ...]], ...]

# The first row whose ending fits applies, and then the last row, whose ending is empty.
_TABLES: Final[dict[str, _Rows]] = {
    "auto-trailing-slash": (
        ("/index.html", (_Moved("/index.html", "/"), _Moved(".html", ""))),
        ("/index", (_At("/index"), _Moved("/index.html", "/"), _Moved(".html", ""))),
        ("/", (_At("/index.html"), _Moved(".html", ""))),
        (".html", (_Moved(".html", ""), _Moved("/index.html", "/"))),
        ("", (_At(""), _At(".html"), _Moved("/index.html", "/"))),
    ),
    "force-trailing-slash": (
        ("/index.html", (_Moved("/index.html", "/"), _Moved(".html", "/"))),
        ("/index", (_At("/index"), _Moved("/index.html", "/"), _Moved(".html", "/"))),
        ("/", (_At("/index.html"), _At(".html"))),
        (".html", (_Moved(".html", "/"), _At(".html"), _Moved("/index.html", "/"))),
        ("", (_At(""), _Moved(".html", "/"), _Moved("/index.html", "/"))),
    ),
    "drop-trailing-slash": (
        ("/index.html", (_Moved("/index.html", ""), _At("/index.html"), _Moved(".html", ""))),
        ("/index", (_At("/index"), _Moved(".html", ""), _Moved("/index.html", ""))),
        ("/", (_Moved(".html", ""), _Moved("/index.html", ""))),
        (".html", (_Moved(".html", ""), _Moved("/index.html", ""))),
        ("", (_At(""), _At(".html"), _At("/index.html"))),
    ),
    "none": (("", (_At(""),)),),
}


def resolve(
    path: str, html: HtmlHandling, not_found: NotFoundHandling, exists: Callable[[str], bool]
) -> Serve | Redirect | None:
    """What answers a decoded path; None: no asset does. `exists` is asked about files by their absolute names."""
    found = _find(path, _TABLES[html], exists, redirects=True)
    return _when_missing(path, not_found, exists) if found is None else found


def _find(path: str, rows: _Rows, exists: Callable[[str], bool], *, redirects: bool) -> Serve | Redirect | None:
    for ending, attempts in _applying(path, rows):
        stem = path[: len(path) - len(ending)]
        for attempt in attempts:
            file = stem + attempt.file
            if isinstance(attempt, _At):
                if exists(file):
                    return Serve(file)
                continue
            to = stem + attempt.to or "/"
            if to == path:
                if exists(file):
                    return Serve(file)
            elif (
                redirects
                and exists(file)
                and not exists(to)
                and _find(to, rows, exists, redirects=False) == Serve(file)
            ):
                return Redirect(to)
    return None


def _applying(path: str, rows: _Rows) -> list[tuple[str, tuple[_At | _Moved, ...]]]:
    special = next(((ending, attempts) for ending, attempts in rows[:-1] if path.endswith(ending)), None)
    return [rows[-1]] if special is None else [special, rows[-1]]


def _when_missing(path: str, not_found: NotFoundHandling, exists: Callable[[str], bool]) -> Serve | None:
    if not_found == "single-page-application":
        return Serve("/index.html") if exists("/index.html") else None
    if not_found == "404-page":
        folder = path
        while folder:
            folder = folder.rpartition("/")[0]
            if exists(f"{folder}/404.html"):
                return Serve(f"{folder}/404.html", 404)
    return None
