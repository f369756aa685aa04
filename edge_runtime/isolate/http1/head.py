"""The head of a request on an HTTP/1 connection: what it may be, and what it says about the body: pure.

llhttp (strict) reads it; beyond what that checks, the request line must be what it read, to the byte. Sources: RFC
9112; llhttp 9.
"""

from __future__ import annotations

import re
from http import HTTPMethod
from typing import Final

from edge_runtime.isolate.http.exchange import Checked
from edge_runtime.limits import REQUEST_HEADERS_COUNT_MAX, REQUEST_HEADERS_MAX, REQUEST_URL_MAX

_METHODS: Final = {name.encode(): name for name in HTTPMethod.__members__ if name != "CONNECT"}
STARTS: Final = (b"GET ", b"POST ", *(method + b" " for method in _METHODS if method not in (b"GET", b"POST")))
"""With which a head begins that needs no closer look."""
METHOD_LENGTH_MAX: Final = 32
_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BEYOND_ASCII: Final = re.compile(rb"[\x80-\xff]")
_LINE_MAX: Final = METHOD_LENGTH_MAX + REQUEST_URL_MAX + len(b"  HTTP/1.1\r\n")
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding", b"expect"})
_TLS_HANDSHAKE: Final = b"\x16"
_HTTP2_PREFACE: Final = b"PRI * HTTP/2.0\r\n"
NOT_HTTP: Final = "Bad Request: this is not an HTTP request"


class RefusedRequest(Exception):
    """The connection cannot be understood from here on: answer with `status` and close it."""

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        super().__init__(reason)


class OtherProtocol(Exception):
    """The client speaks HTTP/2 or TLS, or asks for an upgrade: `take_unserved` has its bytes."""


class RequestHead:
    """One request without its body. Not to be changed, but for what is `checked` of it: the next request with the same
    bytes gets the same object."""

    __slots__ = (
        "checked", "chunked", "expects_continue", "headers", "keep_alive", "length", "method", "target", "version",
    )  # fmt: skip

    def __init__(
        self, raw: bytes, method: bytes, target: bytes, headers: list[tuple[bytes, bytes]], keep_alive: bool
    ) -> None:
        """RefusedRequest for what llhttp lets pass and must not be served.

        Args:
            raw: the head's bytes; the other arguments are what llhttp made of them.
        """
        if method not in _METHODS:
            raise RefusedRequest(400, NOT_HTTP)
        if len(headers) > REQUEST_HEADERS_COUNT_MAX:
            raise RefusedRequest(431, f"Request Header Fields Too Large: at most {REQUEST_HEADERS_COUNT_MAX} fields")
        if raw.startswith(b"%b %b HTTP/1.1\r\n" % (method, target)):
            version = "1.1"
        elif raw.startswith(b"%b %b HTTP/1.0\r\n" % (method, target)):
            version = "1.0"
        elif raw.startswith(b"%b %b HTTP/" % (method, target)):
            raise RefusedRequest(505, "HTTP Version Not Supported: HTTP/1.0, HTTP/1.1 and, by its preface, HTTP/2 are")
        else:
            raise RefusedRequest(400, "Bad Request: the request line is malformed")
        length, chunked, expects_continue = 0, False, False
        for name, value in headers:
            if name in _FRAMING:
                if name == b"content-length":
                    length = int(value)
                elif name == b"transfer-encoding":
                    chunked = True
                    if value.lower() != b"chunked":
                        raise RefusedRequest(501, "Not Implemented: transfer codings other than chunked")
                    if version == "1.0":
                        raise RefusedRequest(400, "Bad Request: Transfer-Encoding in HTTP/1.0")
                elif value.lower() != b"100-continue":
                    raise RefusedRequest(417, "Expectation Failed: only 100-continue is known")
                else:
                    expects_continue = version == "1.1"
        self.method = _METHODS[method]
        self.target = target
        self.headers = headers
        """Names in lower case, in order of arrival, without the white space around values."""
        self.version = version
        self.keep_alive = keep_alive
        """Whether the client is ready to send another request on the connection."""
        self.length = length
        """Bytes of the body; 0 also for a chunked one."""
        self.chunked = chunked
        self.expects_continue = expects_continue
        self.checked = Checked()


def ascii_line(raw: bytes) -> bytes:
    """A head whose request line may have raw bytes beyond ASCII, which browsers do send and llhttp refuses: they become
    percent-encoded, as the worker's URL has them."""
    line, end, rest = raw.partition(b"\n")
    return _BEYOND_ASCII.sub(lambda found: b"%%%02X" % found[0][0], line) + end + rest


def may_be_method(start: bytes, first: bool) -> bool:
    """Whether more bytes may make a method of `start`; raises for what is none, or not one of ours. `first`:
    whether the connection begins with it."""
    if first and start.startswith((_TLS_HANDSHAKE, _HTTP2_PREFACE)):
        raise OtherProtocol
    if first and _HTTP2_PREFACE.startswith(start):
        return False
    token = _TOKEN.match(start)
    if token is not None and len(token[0]) <= METHOD_LENGTH_MAX:
        if token.end() == len(start):
            return False
        if start[token.end()] == 0x20:
            raise RefusedRequest(501, f"Not Implemented: method {token[0].decode()}")
    raise RefusedRequest(400, NOT_HTTP)


def check_size(head: bytes | bytearray) -> None:
    """RefusedRequest if the head, or what has arrived of it, is longer than a head may be."""
    line = head.find(b"\r\n") + 2
    if (line if line > 1 else len(head)) > _LINE_MAX:
        raise RefusedRequest(414, f"URI Too Long: at most {REQUEST_URL_MAX} bytes")
    if line > 1 and len(head) - line > REQUEST_HEADERS_MAX:
        raise RefusedRequest(431, f"Request Header Fields Too Large: at most {REQUEST_HEADERS_MAX} bytes")
