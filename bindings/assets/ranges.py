"""Conditional and partial requests: If-None-Match, If-Range and Range of RFC 9110. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_RANGE: Final = re.compile(r"\s*bytes\s*=\s*([0-9]{0,18})\s*-\s*([0-9]{0,18})\s*", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes `start` to before `end` of a file."""

    start: int
    end: int


class NotSatisfiable(Exception):
    """The range lies outside of the file; answered with 416."""


def matches_etag(if_none_match: str | None, etag: str) -> bool:
    """Whether the client holds this state of the file already; weak tags count too."""
    if if_none_match is None:
        return False
    tags = [tag.strip() for tag in if_none_match.split(",")]
    return tags == ["*"] or any(tag.removeprefix("W/") == etag for tag in tags)


def requested_part(range_header: str | None, if_range: str | None, etag: str, size: int) -> Part | None:
    """The part that is asked for; None: the whole file, also for several ranges and for what is no range.

    Raises NotSatisfiable.
    """
    if range_header is None or (if_range is not None and if_range.strip() != etag):
        return None
    match = _RANGE.fullmatch(range_header)
    if match is None or match[1] == match[2] == "":
        return None
    if not match[1]:
        length = min(int(match[2]), size)
        if not length:
            raise NotSatisfiable
        return Part(size - length, size)
    start = int(match[1])
    end = size if not match[2] else min(int(match[2]) + 1, size)
    if match[2] and int(match[2]) < start:
        return None
    if start >= size:
        raise NotSatisfiable
    return Part(start, end)
