"""The head of an HTTP/1.1 response: pure. What frames a message belongs to the connection, never to the script."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final

from edge_runtime.isolate.connection import RawHeaders

_STATUS_LINES: Final = {int(status): f"HTTP/1.1 {int(status)} {status.phrase}\r\n".encode() for status in HTTPStatus}
_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_NOT_THE_SCRIPTS: Final = frozenset(
    {
        b"connection", b"content-length", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding",
        b"upgrade",
    }
)  # fmt: skip
"""Hop by hop (RFC 9110, 7.6.1), and the length, which the caller sets."""
_NAMES_KEPT: Final = 1024

_names: dict[bytes, bytes] = dict.fromkeys(_NOT_THE_SCRIPTS, b"")
"""Names that were checked, as they are sent; b"" for those that are not. Scripts use few of them."""


def response_head(status: int, headers: RawHeaders, framing: bytes, date: bytes) -> bytes:
    """The head with the end of its last line but one; nothing is written for `framing` and `date` where empty.

    Args:
        headers: the script's; those that are not for it to set are left out.
        framing: whole header lines of the connection's own.
        date: the line for scripts that set none.
    Raises:
        ValueError: a header's name is no token, or its value would break out of its line.
    """
    parts = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status]
    lines = 1
    for name, value in headers:
        sent = _names.get(name)
        if sent is None:
            sent = _checked(name)
        if sent:
            if sent == b"date":
                date = b""
            parts += (sent, b": ", value, b"\r\n")
            lines += 1
    head = b"".join(parts)
    if head.count(b"\n") != lines or head.count(b"\r") != lines or b"\0" in head:
        broken = next(name for name, value in headers if any(byte in value for byte in b"\r\n\0"))
        raise ValueError(f"the response's header {broken.decode('latin-1')} has a line break or NUL in its value")
    return b"%b%b%b\r\n" % (head, framing, date)


def _checked(name: bytes) -> bytes:
    if not _NAME.fullmatch(name):
        raise ValueError(f"the response has a header whose name is not a token: {name.decode('latin-1')!r}")
    lower = name.lower()
    sent = _names.get(lower, lower)
    if len(_names) < _NAMES_KEPT:
        _names[name] = sent
    return sent


def declared_length(headers: RawHeaders) -> int | None:
    """The length of the body that the script declares; None if it does not, or not clearly."""
    declared = {value for name, value in headers if name == b"content-length"}
    if len(declared) != 1:
        return None
    value = declared.pop()
    return int(value) if value.isdigit() and len(value) < 19 else None
