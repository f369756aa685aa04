"""What of a connection has not been read yet, as the kernel counts it."""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
from typing import Final

import trio

# struct tcp_info of linux/tcp.h: its first byte is the state, tcpi_bytes_received (8 bytes) is at 128.
_INFO_SIZE: Final = 136
_BYTES_RECEIVED_AT: Final = 128
_ENDED_BY_CLIENT: Final = 8  # TCP_CLOSE_WAIT: the client's FIN was counted as a byte


def is_untouched(client: socket.socket | trio.socket.SocketType) -> bool:
    """True only if everything the client has sent is still there to be read. False where that is not known."""
    if client.family == socket.AF_UNIX:
        return False
    try:
        info = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_SIZE)
        waiting = _unread_bytes(client)
    except OSError:
        return False
    if len(info) < _INFO_SIZE:
        return False
    received: int = struct.unpack_from("=Q", info, _BYTES_RECEIVED_AT)[0]
    return received - (info[0] == _ENDED_BY_CLIENT) == waiting > 0


def has_unread(client: socket.socket | trio.socket.SocketType) -> bool:
    """Whether there is something to be read from it. OSError if it is broken."""
    return _unread_bytes(client) > 0


def _unread_bytes(client: socket.socket | trio.socket.SocketType) -> int:
    count: int = struct.unpack("i", fcntl.ioctl(client.fileno(), termios.FIONREAD, bytes(4)))[0]
    return count
