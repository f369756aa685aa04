"""Answers that the supervisor gives itself, for connections that no isolate takes."""

from __future__ import annotations

import http
import socket
from typing import Final

import trio

_LINGER_S: Final = 1.0
_LINGER_BYTES: Final = 256 * 1024


def plain_answer(status: int, text: str, *, retry_after_s: int | None = None) -> bytes:
    """A whole HTTP/1.1 response that closes the connection."""
    body = text.encode(errors="backslashreplace")
    head = [
        f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}",
        "content-type: text/plain; charset=utf-8",
        f"content-length: {len(body)}",
        "cache-control: no-store",
        "x-content-type-options: nosniff",
        "connection: close",
    ]
    if retry_after_s is not None:
        head.append(f"retry-after: {retry_after_s}")
    return "\r\n".join([*head, "", ""]).encode() + body


async def refuse(client: trio.socket.SocketType, answer: bytes) -> None:
    """Send an answer and close.

    What the client has sent is read away for a moment first: closing with unread input would reset the connection,
    and the client would not see the answer.
    """
    with trio.move_on_after(_LINGER_S):
        try:
            while answer:
                answer = answer[await client.send(answer) :]
            client.shutdown(socket.SHUT_WR)
            read = 0
            while read < _LINGER_BYTES and (data := await client.recv(64 * 1024)):
                read += len(data)
        except OSError:
            pass  # the client has gone
    client.close()
