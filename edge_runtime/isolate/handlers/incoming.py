"""The script's Request out of an HTTP exchange, and what is refused before a script sees it."""

from __future__ import annotations

import re
from functools import lru_cache, partial
from http import HTTPMethod
from urllib.parse import quote

from edge_runtime.event import current_event
from edge_runtime.isolate.http.exchange import Checked, Exchange
from edge_runtime.limits import REQUEST_BODY_MAX, REQUEST_URL_MAX
from edge_runtime.metering.quantities import BYTES_IN
from edge_runtime.workers.request import Request
from edge_runtime.workers.url import normalize_url

_ASCII = "".join(map(chr, range(0x21, 0x7F)))
_UNUSUAL_TARGET = re.compile(rb"[^!$%&()*+,\-./0-9:;=?@A-Z_a-z~]|/\.|%2[Ee]")
"""What normalising may change; most targets have nothing of it and are spared."""
_UNUSUAL_HOST = re.compile(rb"[A-Z]|:(80|443)?$")
_NOT_IN_HOST = re.compile(rb"[^\x00-\x7f]|[ /?#@\\<>\"']")
_HOSTS_REMEMBERED = 256
_METHODS = frozenset(HTTPMethod.__members__) - {"CONNECT"}


class BadRequest(Exception):
    """The request must be refused before any handler sees it."""

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        super().__init__(reason)


def incoming_request(exchange: Exchange) -> Request:
    """Build the script's Request; raises BadRequest for what must not reach a handler."""
    checked = exchange.checked
    if not checked.url:
        _check(exchange, checked)
    receive = partial(_receive_counted, exchange) if checked.has_body else None
    return Request._incoming(exchange.method, checked.url, exchange.headers, receive)


def _check(exchange: Exchange, checked: Checked) -> None:
    """Find out what the script is to see of the head; BadRequest.

    The host becomes part of the URL, so it is checked strictly. A message with both Content-Length and
    Transfer-Encoding is refused: two parsers could disagree about where it ends.
    """
    method, target, headers = exchange.method, exchange.target, exchange.headers
    if method not in _METHODS:
        raise BadRequest(501, f"Not Implemented: method {method}")
    if len(target) > REQUEST_URL_MAX:
        raise BadRequest(414, f"URI Too Long: {len(target)} bytes, at most {REQUEST_URL_MAX}")
    by_name = dict(headers)
    host = by_name.get(b"host")
    if len(by_name) != len(headers) and sum(name == b"host" for name, _ in headers) > 1:
        raise BadRequest(400, "Bad Request: more than one Host header")
    length = by_name.get(b"content-length")
    chunked = b"transfer-encoding" in by_name
    if chunked and length is not None:
        raise BadRequest(400, "Bad Request: both Content-Length and Transfer-Encoding")
    if length is not None and int(length) > REQUEST_BODY_MAX:
        raise BadRequest(413, f"Payload Too Large: {int(length)} bytes, at most {REQUEST_BODY_MAX}")
    if not host:
        if exchange.http_version == "1.1":
            raise BadRequest(400, "Bad Request: no Host header")
        host = b"localhost"
    origin, usual = _origin(exchange.scheme, host)
    if target == b"/" and usual:
        url = origin + "/"
    elif not target.startswith(b"/"):
        url = _normalized(target if target.startswith((b"http://", b"https://")) else b"%s/" % origin.encode())
    else:
        url = origin + target.decode("latin-1")
        if not usual or _UNUSUAL_TARGET.search(target):
            url = _normalized(url.encode("latin-1"))
    checked.has_body = chunked or (length is not None and length != b"0")
    checked.title = f"{method} {target.decode('latin-1')}"
    checked.url = url


@lru_cache(maxsize=_HOSTS_REMEMBERED)
def _origin(scheme: str, host: bytes) -> tuple[str, bool]:
    """The beginning of the URL, and whether it is normal as it is. A server is asked for few hosts, many times."""
    if _NOT_IN_HOST.search(host):
        raise BadRequest(400, "Bad Request: the Host header is not a host")
    return f"{scheme}://{host.decode()}", not _UNUSUAL_HOST.search(host)


def _normalized(url: bytes) -> str:
    """The URL as scripts expect it: without dot segments, bytes outside of ASCII percent-encoded as they came."""
    try:
        return normalize_url(quote(url, safe=_ASCII))
    except TypeError as error:
        raise BadRequest(400, f"Bad Request: {error}") from None


async def _receive_counted(exchange: Exchange) -> bytes | None:
    piece = await exchange.receive()
    event = current_event.get()
    if piece and event is not None:
        event.meter.quantities[BYTES_IN] += len(piece)
    return piece
