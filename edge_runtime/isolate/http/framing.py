"""Which headers frame a message, and how long the body of an answer is said to be: pure, for all versions of HTTP."""

from __future__ import annotations

from typing import Final

from edge_runtime.isolate.http.exchange import RawHeaders

OF_THE_CONNECTION: Final = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
)
"""Headers that go from hop to hop (RFC 9110, 7.6.1), which are not the script's to set."""

WITHOUT_BODY: Final = frozenset({*range(100, 200), 204, 304})


def length_without_body(status: int, headers: RawHeaders, body: bytes) -> int | None:
    """The content-length of an answer whose body is not sent, because its status has none or HEAD was asked; None where
    none is to be sent."""
    if status in WITHOUT_BODY and status != 304:
        return None
    declared = None if body else declared_length(headers)
    return len(body) if declared is None and status != 304 else declared


def declared_length(headers: RawHeaders) -> int | None:
    """The length of the body that the script declares; None if it does not, or not clearly."""
    declared = {value for name, value in headers if name == b"content-length"}
    if len(declared) != 1:
        return None
    value = declared.pop()
    return int(value) if value.isdigit() and len(value) < 19 else None
