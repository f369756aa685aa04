"""What the first bytes of a connection tell about where it belongs: pure.

Only as much of HTTP/1 is understood as routing needs; the isolate that gets the connection parses it again, whole.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final


@dataclass(frozen=True, slots=True)
class Head:
    """Where an HTTP/1 request wants to go; `host` is "" when it names none."""

    host: str
    path: str


class Peeked(Enum):
    INCOMPLETE = auto()
    """More bytes are needed."""
    HTTP2 = auto()
    """HTTP/2 with prior knowledge; the host is inside compressed headers."""
    TLS = auto()
    """A TLS client on a plain port."""
    GARBAGE = auto()


_HTTP2_PREFACE: Final = b"PRI * HTTP/2.0\r\n"
_REQUEST_LINE: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) ([^\s\x00-\x1f]+) HTTP/1\.[01]\r?\n")
_STARTS_LIKE_ONE: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}( [^\s\x00-\x1f]*( [HTP/1.0]{0,8}\r?)?)?")
_HOST: Final = re.compile(rb"\r?\n[Hh][Oo][Ss][Tt]:[ \t]*([^\r\n]*?)[ \t]*\r?\n")
_END: Final = re.compile(rb"\r?\n\r?\n")
_ABSOLUTE: Final = re.compile(r"https?://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)


def look(data: bytes) -> Head | Peeked:
    """Read the beginning of a connection, empty lines before the request ignored."""
    data = data.lstrip(b"\r\n")
    if not data:
        return Peeked.INCOMPLETE
    if data[:1] == b"\x16":
        return Peeked.TLS
    if data.startswith(_HTTP2_PREFACE):
        return Peeked.HTTP2
    line = _REQUEST_LINE.match(data)
    if line is None:
        return Peeked.INCOMPLETE if _STARTS_LIKE_ONE.fullmatch(data) else Peeked.GARBAGE
    target = line[2].decode("latin-1")
    if absolute := _ABSOLUTE.fullmatch(target):
        return Head(absolute[1].rpartition("@")[2], absolute[2] or "/")
    end = _END.search(data, line.end() - 2)
    host = _HOST.search(data, line.end() - 2, len(data) if end is None else end.end())
    if host is not None:
        return Head(host[1].decode("latin-1"), target)
    return Peeked.INCOMPLETE if end is None else Head("", target)
