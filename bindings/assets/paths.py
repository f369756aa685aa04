"""From the path on the request line to the name of a file, and back. Pure.

A path is decoded exactly once, segment by segment, and only names that can be meant honestly come out; anything else
is no asset. Names are absolute within the assets folder: "/", "/docs/", "/docs/intro.html".
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, unquote_to_bytes

_UNRESERVED: Final = "!~*'()"
"""What encodeURIComponent leaves alone beyond letters, digits and "-_."; quote() never encodes those and "~"."""

_FORBIDDEN: Final = re.compile(r"[\x00-\x1f\x7f/\\]")
_SLASHES: Final = re.compile(r"/{2,}")
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")

_OPEN_DOT_FOLDER: Final = ".well-known"
_OWN_FILES: Final = frozenset({"/_headers", "/_redirects", "/_worker.js"})


def decode_path(raw: str) -> str | None:
    """The decoded path, repeated slashes made one; None for a path that names no asset.

    Refused are control characters, backslashes and encoded slashes, dot segments, escapes that are broken or not
    UTF-8, and dot-files other than RFC 8615's "/.well-known/".
    """
    if not raw.startswith("/"):
        return None
    segments: list[str] = []
    for segment in _SLASHES.sub("/", raw)[1:].split("/"):
        if "%" in segment:
            if _BAD_ESCAPE.search(segment):
                return None
            try:
                segment = unquote_to_bytes(segment).decode()
            except UnicodeDecodeError:
                return None
        if _FORBIDDEN.search(segment) or (
            segment.startswith(".") and not (segment == _OPEN_DOT_FOLDER and not segments)
        ):
            return None
        segments.append(segment)
    return "/" + "/".join(segments)


def encode_path(path: str) -> str:
    """The canonical spelling of a decoded path on the request line."""
    return "/".join(quote(segment, safe=_UNRESERVED) for segment in path.split("/"))


def is_servable(path: str) -> bool:
    """Whether a decoded path, possibly with something appended, may name a file that is served."""
    if path in _OWN_FILES or not path.startswith("/") or path.endswith("/") or "//" in path:
        return False
    return "/." not in path or (path.startswith(f"/{_OPEN_DOT_FOLDER}/") and "/." not in path[1:])


def split_target(target: str) -> tuple[str, str]:
    """Path and query ("" or from "?" on) of a request target or URL without its origin; a fragment is dropped."""
    target = target.partition("#")[0]
    path, mark, query = target.partition("?")
    return path, mark + query


def split_url(url: str) -> tuple[str, str]:
    """Host (lower case, with port) and target of a URL; a target alone has the host ""."""
    scheme, mark, rest = url.partition("://")
    if not mark or "/" in scheme:
        return "", url
    end = min((at for at in (rest.find(c) for c in "/?#") if at >= 0), default=len(rest))
    target = rest[end:]
    return rest[:end].rpartition("@")[2].lower(), target if target.startswith("/") else "/" + target
