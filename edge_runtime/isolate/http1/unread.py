"""What a client sends: received as it arrives, and taken away where nobody reads it, so that its answer is not lost and
the connection can go on."""

from __future__ import annotations

import socket
from typing import Final

import trio

from edge_runtime.isolate.http1.client_socket import Client
from edge_runtime.isolate.http1.head import RefusedRequest
from edge_runtime.isolate.http1.parser import RequestParser
from edge_runtime.limits import UNREAD_BODY_MAX, UNREAD_BODY_S

RECEIVE_BYTES: Final = 64 * 1024
"""Memory for larger reads comes fresh from the kernel each time, which costs more than the reads that they save."""


def receive_now(client: Client) -> bytes | None:
    """Bytes that have arrived; None if none have, b"" at the end."""
    try:
        return client.recv(RECEIVE_BYTES)
    except BlockingIOError:
        return None
    except OSError:
        return b""


def will_take_rest(client: Client, parser: RequestParser, expects_continue: bool) -> bool:
    """Whether what is missing of the body will be read away after the answer; what has arrived is at once.

    If not, the answer must say that the connection closes, or the client's next request on it fails.
    """
    unread = UNREAD_BODY_MAX
    while not parser.complete and unread > 0:
        try:
            piece = parser.next_piece()
        except RefusedRequest:
            return False
        if not piece and piece is not None:
            data = receive_now(client)
            if not data:
                break
            parser.feed(data)
        elif piece:
            unread -= len(piece)
    return parser.complete or (not expects_continue and 0 < parser.remaining <= UNREAD_BODY_MAX)


async def drop_rest(client: Client, parser: RequestParser) -> bool:
    """Read away what is missing of the body after the answer. If that is not possible within bounds our side ends, and
    this returns False."""
    unread = UNREAD_BODY_MAX
    with trio.move_on_after(UNREAD_BODY_S):
        while unread >= 0:
            try:
                piece = parser.next_piece()
            except RefusedRequest:
                break
            if piece is None:
                return True
            unread -= len(piece)
            if not piece:
                data = receive_now(client)
                if data is None:
                    await client.readable()
                elif data:
                    parser.feed(data)
                else:
                    return False
    await end_sending(client, parser)
    return False


async def end_sending(client: Client, parser: RequestParser) -> None:
    """End our side. If the client is still sending, take that in for a while: closing over unread bytes would reset the
    connection and could take the answer along."""
    unread = UNREAD_BODY_MAX
    try:
        if parser.complete and not parser.has_unread:
            try:
                if not client.recv(RECEIVE_BYTES):
                    return
            except BlockingIOError:
                return
        client.shutdown(socket.SHUT_WR)
        with trio.move_on_after(UNREAD_BODY_S):
            while unread > 0:
                try:
                    data = client.recv(RECEIVE_BYTES)
                except BlockingIOError:
                    await client.readable()
                    continue
                if not data:
                    return
                unread -= len(data)
    except OSError:
        return  # the client ended it first
