"""A response on its way out, for whoever writes it to a connection."""

from __future__ import annotations

from typing import Any, NamedTuple

from edge_runtime.workers.headers import RawHeaders
from edge_runtime.workers.status import NULL_BODY_STATUSES
from edge_runtime.workers.streams import ReadableStream


class OutgoingResponse(NamedTuple):
    status: int
    headers: RawHeaders
    """Lower-case names. A content-length is the script's own; it may be wrong where the body is bytes."""
    body: bytes | ReadableStream
    """Bytes, b"" for none; or a stream, to be sent with its `write_to`."""
    web_socket: Any
    """The client end of a WebSocketPair of a 101 response; else None."""

    @property
    def headers_with_length(self) -> RawHeaders:
        """The headers as a client gets them, where the body is bytes: its true length among them."""
        if not isinstance(self.body, bytes) or self.status in NULL_BODY_STATUSES:
            return self.headers
        others = [pair for pair in self.headers if pair[0] != b"content-length"]
        return [*others, (b"content-length", b"%d" % len(self.body))]
