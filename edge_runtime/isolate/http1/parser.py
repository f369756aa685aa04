"""Requests out of the bytes of one HTTP/1 connection: pure, with llhttp (strict) as the parser.

llhttp tells neither where a message ends nor stops there, so it is fed no further than that: a head ends with the first
empty line, a body of known length after so many bytes, and a chunked body cannot end but with an empty line. What
comes after stays here until it is asked for. Beyond what llhttp checks, the request line must be what it read, to the
byte. Sources: RFC 9112; llhttp 9.
"""

from __future__ import annotations

import re
from http import HTTPMethod
from typing import Final

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from edge_runtime.isolate.http.exchange import Checked
from edge_runtime.limits import (
    CHUNK_OVERHEAD_RATIO,
    REQUEST_HEADERS_COUNT_MAX,
    REQUEST_HEADERS_MAX,
    REQUEST_URL_MAX,
)

_END: Final = b"\r\n\r\n"
_METHODS: Final = {name.encode(): name for name in HTTPMethod.__members__ if name != "CONNECT"}
_STARTS: Final = (b"GET ", b"POST ", *(method + b" " for method in _METHODS if method not in (b"GET", b"POST")))
_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BEYOND_ASCII: Final = re.compile(rb"[\x80-\xff]")
_METHOD_LENGTH_MAX: Final = 32
_LINE_MAX: Final = _METHOD_LENGTH_MAX + REQUEST_URL_MAX + len(b"  HTTP/1.1\r\n")
_EMPTY_LINES_MAX: Final = 2
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding", b"expect"})
_HEADS_KEPT: Final = 256
_KEPT_HEAD_MAX: Final = 1024
_TLS_HANDSHAKE: Final = b"\x16"
_HTTP2_PREFACE: Final = b"PRI * HTTP/2.0\r\n"


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
        self,
        method: str,
        target: bytes,
        headers: list[tuple[bytes, bytes]],
        version: str,
        keep_alive: bool,
        length: int,
        chunked: bool,
        expects_continue: bool,
    ) -> None:
        self.method = method
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


_heads: dict[bytes, RequestHead] = {}
"""Heads of requests without a body that were parsed before: clients that ask again often ask with the same bytes."""


def _ascii_line(raw: bytes) -> bytes:
    """A head whose request line may have raw bytes beyond ASCII, which browsers do send and llhttp refuses: they become
    percent-encoded, as the worker's URL has them."""
    line, end, rest = raw.partition(b"\n")
    return _BEYOND_ASCII.sub(lambda found: b"%%%02X" % found[0][0], line) + end + rest


class RequestParser:
    """Give it bytes with `feed`, then take heads and the pieces of their bodies in turn."""

    __slots__ = (
        "_at", "_body_bytes", "_chunked", "_data", "_empty_lines", "_first", "_head_done", "_headers", "_keep_alive",
        "_line_done", "_llhttp", "_overhead", "_partial", "_pieces", "_raw", "_tail", "_target", "_upgrade", "complete",
        "remaining",
    )  # fmt: skip

    def __init__(self) -> None:
        self._data = b""
        self._at = 0
        self._partial: bytearray | None = None
        """The part of a head that has arrived, where not all of it has."""
        self._line_done = False
        """Whether the request line of the partial head has arrived: llhttp gets it whole."""
        self._raw = b""
        self._first = True
        self._empty_lines = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._target = b""
        self._head_done = False
        self._keep_alive = False
        self._upgrade = False
        self._chunked = False
        self._pieces: list[bytes] = []
        self._tail = b""
        self._body_bytes = 0
        self._overhead = 0
        self.remaining = 0
        """Bytes of the body that have not been taken from the input; 0 for a chunked one."""
        self.complete = True
        """Whether the request last begun has arrived whole."""
        self._llhttp: HttpRequestParser | None = HttpRequestParser(self)

    def feed(self, data: bytes) -> None:
        self._data = self._data[self._at :] + data if self._at < len(self._data) else data
        self._at = 0

    @property
    def has_unread(self) -> bool:
        """Whether bytes wait that belong to no request which was begun."""
        return self._at < len(self._data) or self._partial is not None

    def take_unserved(self) -> bytes:
        """The bytes from the last head on that `next_head` has not returned."""
        data = self._raw + self._data[self._at :]
        self.close()
        return data

    def close(self) -> None:
        """Let go of llhttp, which refers back to this object."""
        self._llhttp = None
        self._data = self._raw = b""
        self._at = 0

    # Heads

    def next_head(self) -> RequestHead | None:
        """The next request; None if more bytes are needed first. Call when the last one is `complete`.

        Raises RefusedRequest and OtherProtocol.
        """
        data, at = self._data, self._at
        if self._partial is not None:
            return self._continue_head(self._partial)
        if at == len(data):
            self._data, self._at = b"", 0  # a connection may be idle for long
            return None
        if data[at] in b"\r\n":
            at = self._skip_empty_lines()
            if at == len(data) or data[at] == 0x0D:
                return None
        end = data.find(_END, at) + 4
        if end != 3:
            raw = data if at == 0 and end == len(data) else data[at:end]
            head = _heads.get(raw)
            if head is not None:
                self._first = False
                self._empty_lines = 0
                self._at = end
                return head
        if not data.startswith(_STARTS, at) and not self._may_be_method(data[at : at + _METHOD_LENGTH_MAX + 1]):
            return None
        self._first = self._head_done = self.complete = False
        self._empty_lines = 0
        self._headers = []
        self._target = b""
        if end == 3:
            self._partial = bytearray()
            self._line_done = False
            return self._continue_head(self._partial)
        self._at = end
        if not raw.isascii():
            raw = _ascii_line(raw)
        self._parse(raw)
        return self._finish_head(raw)

    def _continue_head(self, partial: bytearray) -> RequestHead | None:
        data, at = self._data, self._at
        if at == len(data):
            return None
        self._at = len(data)
        if not self._line_done:
            line_end = data.find(b"\n", at) + 1
            partial += data[at : line_end or len(data)]
            if not line_end:
                self._check_size(partial)
                return None
            at = line_end
            partial[:] = line = _ascii_line(bytes(partial))
            self._line_done = True
            self._parse(line)
        seen = len(partial)
        partial += data[at:]
        end = partial.find(_END, max(0, seen - 3)) + 4
        if end == 3:
            self._parse(data[at:])
            self._check_size(partial)
            return None
        self._at = at + end - seen
        self._parse(data[at : self._at])
        self._partial = None
        return self._finish_head(bytes(partial[:end]))

    def _skip_empty_lines(self) -> int:
        """Some clients end a body with a line break too many (RFC 9112, 2.2)."""
        data = self._data
        while data.startswith(b"\r\n", self._at):
            self._at += 2
            self._empty_lines += 1
        if self._empty_lines > _EMPTY_LINES_MAX or data.startswith(b"\n", self._at):
            raise RefusedRequest(400, "Bad Request: no request line")
        if data.startswith(b"\r", self._at) and len(data) > self._at + 1:
            raise RefusedRequest(400, "Bad Request: no request line")
        return self._at

    def _may_be_method(self, start: bytes) -> bool:
        """Whether more bytes may make a method of `start`; raises for what is none, or not one of ours."""
        if self._first and start.startswith((_TLS_HANDSHAKE, _HTTP2_PREFACE)):
            raise OtherProtocol
        if self._first and _HTTP2_PREFACE.startswith(start):
            return False
        token = _TOKEN.match(start)
        if token is not None and len(token[0]) <= _METHOD_LENGTH_MAX:
            if token.end() == len(start):
                return False
            if start[token.end()] == 0x20:
                raise RefusedRequest(501, f"Not Implemented: method {token[0].decode()}")
        raise RefusedRequest(400, "Bad Request: this is not an HTTP request")

    def _parse(self, data: bytes) -> None:
        assert self._llhttp is not None
        try:
            self._llhttp.feed_data(data)
        except HttpParserUpgrade:
            self._upgrade = True
        except HttpParserError as error:
            if self._head_done and any(name == b"transfer-encoding" for name, _ in self._headers):
                raise RefusedRequest(501, "Not Implemented: transfer codings other than chunked") from None
            if "can't be present with" in str(error):
                raise RefusedRequest(400, "Bad Request: both Content-Length and Transfer-Encoding") from None
            raise RefusedRequest(400, f"Bad Request: {error}") from None

    def _check_size(self, head: bytes | bytearray) -> None:
        line = head.find(b"\r\n") + 2
        if (line if line > 1 else len(head)) > _LINE_MAX:
            raise RefusedRequest(414, f"URI Too Long: at most {REQUEST_URL_MAX} bytes")
        if line > 1 and len(head) - line > REQUEST_HEADERS_MAX:
            raise RefusedRequest(431, f"Request Header Fields Too Large: at most {REQUEST_HEADERS_MAX} bytes")

    def _finish_head(self, raw: bytes) -> RequestHead:
        if len(raw) > REQUEST_URL_MAX:
            self._check_size(raw)
        assert self._llhttp is not None
        method, headers = self._llhttp.get_method(), self._headers
        self._headers = []
        if not self._head_done or method not in _METHODS:
            raise RefusedRequest(400, "Bad Request: this is not an HTTP request")
        if len(headers) > REQUEST_HEADERS_COUNT_MAX:
            raise RefusedRequest(431, f"Request Header Fields Too Large: at most {REQUEST_HEADERS_COUNT_MAX} fields")
        if raw.startswith(b"%b %b HTTP/1.1\r\n" % (method, self._target)):
            version = "1.1"
        elif raw.startswith(b"%b %b HTTP/1.0\r\n" % (method, self._target)):
            version = "1.0"
        elif raw.startswith(b"%b %b HTTP/" % (method, self._target)):
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
        if self._upgrade:
            self._raw = raw
            raise OtherProtocol
        self._chunked = chunked
        self.remaining = length
        if chunked:
            self._tail = b""
            self._body_bytes = self._overhead = 0
        head = RequestHead(
            _METHODS[method], self._target, headers, version, self._keep_alive, length, chunked, expects_continue
        )
        if self.complete and len(raw) <= _KEPT_HEAD_MAX:
            if len(_heads) >= _HEADS_KEPT:
                _heads.clear()
            _heads[raw] = head
        return head

    # Bodies

    def next_piece(self) -> bytes | None:
        """The next piece of the body: b"" if more bytes are needed first, None at its end. Raises RefusedRequest."""
        while not self.complete:
            data, at = self._data, self._at
            if at == len(data):
                return b""
            end = self._end_of_chunks() if self._chunked else min(len(data), at + self.remaining)
            self._at = end
            taken = data if at == 0 and end == len(data) else data[at:end]
            self._parse(taken)
            pieces = self._pieces
            if pieces:
                self._pieces = []
                piece = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            else:
                piece = b""
            if self._chunked:
                self._tail = (self._tail + taken)[-3:]
                self._body_bytes += len(piece)
                self._overhead += len(taken) - len(piece)
                if self._overhead > REQUEST_HEADERS_MAX + CHUNK_OVERHEAD_RATIO * self._body_bytes:
                    raise RefusedRequest(400, "Bad Request: chunks with more around them than in them")
            else:
                self.remaining -= len(piece)
            if piece:
                return piece
        return None

    def _end_of_chunks(self) -> int:
        """How far llhttp may be fed: to the next empty line, which may end the message."""
        data, at, tail = self._data, self._at, self._tail
        crossing = (tail + data[at : at + 3]).find(_END)
        if crossing >= 0:
            return at + crossing + 4 - len(tail)
        end = data.find(_END, at)
        return len(data) if end < 0 else end + 4

    # Called by llhttp

    def on_url(self, url: bytes) -> None:
        if self.complete:
            raise AssertionError("llhttp was fed beyond the end of a message")
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._head_done:  # trailers are dropped
            self._headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        assert self._llhttp is not None
        self._head_done = True
        self._keep_alive = self._llhttp.should_keep_alive()

    def on_body(self, data: bytes) -> None:
        self._pieces.append(data)

    def on_message_complete(self) -> None:
        self.complete = True
