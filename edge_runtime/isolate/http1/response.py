"""The head of an HTTP/1.1 response: pure. What frames a message belongs to the connection, never to the script."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final

from edge_runtime.isolate.http.exchange import RawHeaders
from edge_runtime.isolate.http.framing import OF_THE_CONNECTION

_STATUS_LINES: Final = {int(status): f"HTTP/1.1 {int(status)} {status.phrase}\r\n".encode() for status in HTTPStatus}
_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_NOT_IN_VALUE: Final = re.compile(rb"[\r\n\0]")
_LINES_KEPT: Final = 1024
_KEPT_VALUE_MAX: Final = 128

_lines: dict[tuple[bytes, bytes], bytes] = {}
"""Header lines that were checked and made before; b"" where nothing is sent. Scripts send few that differ."""


def response_head(status: int, headers: RawHeaders, framing: bytes, date: bytes) -> bytes:
    """The whole head of a response.

    Args:
        headers: the script's; those that are not for it to set are left out.
        framing: whole header lines of the connection's own.
        date: the line for scripts that set none.
    Raises:
        ValueError: a header's name is no token, or its value would break out of its line.
    """
    parts = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status]
    for name, value in headers:
        if name == b"content-length":  # the caller sets it
            continue
        line = _lines.get((name, value))
        if line is None:
            line = _checked_line(name, value)
        parts.append(line)
        if name == b"date":
            date = b""
    parts += (framing, date, b"\r\n")
    return b"".join(parts)


def _checked_line(name: bytes, value: bytes) -> bytes:
    if not _NAME.fullmatch(name):
        raise ValueError(f"the response has a header whose name is not a token: {name.decode('latin-1')!r}")
    if _NOT_IN_VALUE.search(value):
        raise ValueError(f"the response's header {name.decode()} has a line break or NUL in its value")
    lower = name.lower()
    line = b"" if lower in OF_THE_CONNECTION or lower == b"content-length" else b"%b: %b\r\n" % (lower, value)
    if len(value) <= _KEPT_VALUE_MAX:
        if len(_lines) >= _LINES_KEPT:
            _lines.clear()
        _lines[name, value] = line
    return line
