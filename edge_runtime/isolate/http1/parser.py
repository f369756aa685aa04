"""Requests out of the bytes of one HTTP/1 connection: pure, with llhttp (strict) as the parser.

llhttp tells neither where a message ends nor stops there, so it is fed no further than that: a head ends with the first
empty line, a body of known length after so many bytes, and a chunked body cannot end but with an empty line. What
comes after stays here until it is asked for. Sources: RFC 9112; llhttp 9.
"""

from __future__ import annotations

from typing import Final

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from edge_runtime.isolate.http1.head import (
    METHOD_LENGTH_MAX,
    NOT_HTTP,
    STARTS,
    OtherProtocol,
    RefusedRequest,
    RequestHead,
    ascii_line,
    check_size,
    may_be_method,
)
from edge_runtime.limits import CHUNK_OVERHEAD_RATIO, REQUEST_HEADERS_MAX, REQUEST_URL_MAX

_END: Final = b"\r\n\r\n"
_EMPTY_LINES_MAX: Final = 2
_HEADS_KEPT: Final = 256
_KEPT_HEAD_MAX: Final = 1024

_heads: dict[bytes, RequestHead] = {}
"""Heads of requests without a body that were parsed before: clients that ask again often ask with the same bytes."""


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
        if not data.startswith(STARTS, at) and not may_be_method(data[at : at + METHOD_LENGTH_MAX + 1], self._first):
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
            raw = ascii_line(raw)
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
                check_size(partial)
                return None
            at = line_end
            partial[:] = line = ascii_line(bytes(partial))
            self._line_done = True
            self._parse(line)
        seen = len(partial)
        partial += data[at:]
        end = partial.find(_END, max(0, seen - 3)) + 4
        if end == 3:
            self._parse(data[at:])
            check_size(partial)
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

    def _finish_head(self, raw: bytes) -> RequestHead:
        if len(raw) > REQUEST_URL_MAX:
            check_size(raw)
        if not self._head_done:
            raise RefusedRequest(400, NOT_HTTP)
        assert self._llhttp is not None
        head = RequestHead(raw, self._llhttp.get_method(), self._target, self._headers, self._keep_alive)
        self._headers = []
        if self._upgrade:
            self._raw = raw
            raise OtherProtocol
        self._chunked = head.chunked
        self.remaining = head.length
        if head.chunked:
            self._tail = b""
            self._body_bytes = self._overhead = 0
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
