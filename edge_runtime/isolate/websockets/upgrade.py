"""The answer that grants a client's request for a WebSocket. Source: RFC 6455, section 4.2."""

from __future__ import annotations

from typing import Final

import h11
from wsproto.utilities import generate_accept_token

from edge_runtime.isolate.http.exchange import RawHeaders

_OURS: Final = frozenset(
    {
        b"connection", b"content-length", b"sec-websocket-accept", b"sec-websocket-extensions", b"transfer-encoding",
        b"upgrade",
    }
)  # fmt: skip


def switching_protocols(request: RawHeaders, headers: RawHeaders) -> bytes:
    """The head of the answer that grants an upgrade; `headers` are the script's. ValueError if they are malformed."""
    key = next(value for name, value in request if name == b"sec-websocket-key")
    own = [
        (b"upgrade", b"websocket"),
        (b"connection", b"Upgrade"),
        (b"sec-websocket-accept", generate_accept_token(key)),
    ]
    given = [(name, value) for name, value in headers if name.lower() not in _OURS]
    try:
        checked = h11.InformationalResponse(status_code=101, headers=[*own, *given], reason=b"Switching Protocols")
    except h11.LocalProtocolError as error:
        raise ValueError(f"the response with a WebSocket has an unusable header: {error}") from None
    lines = [name + b": " + value for name, value in checked.headers]
    return b"HTTP/1.1 101 Switching Protocols\r\n" + b"\r\n".join(lines) + b"\r\n\r\n"
