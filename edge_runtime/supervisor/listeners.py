"""Listening sockets, opened by us so that what they accept has the options that isolates rely on."""

from __future__ import annotations

import errno
import os
import resource
import socket
from pathlib import Path
from typing import Final

from edge_runtime.errors import UsageError
from edge_runtime.limits import WRITE_TIMEOUT_S
from edge_runtime.socket_paths import socket_address

_BACKLOG: Final = 1024
_FREE_PORT_TRIES: Final = 8
_LOOPBACK: Final = ("127.0.0.1", "::1")


def open_tcp(host: str, port: int) -> list[socket.socket]:
    """Listen on every address of `host`; "localhost" means IPv4 and IPv6 loopback on the same port.

    Port 0 takes a free one. Raises UsageError that says what to do when the address cannot be had.
    """
    addresses = _addresses(host, port)
    tries = 1 if port else _FREE_PORT_TRIES
    while True:
        tries -= 1
        try:
            return _listen_on_all(addresses, port)
        except OSError as error:
            # A port that is free at the first address may be taken at the next.
            if not tries or error.errno != errno.EADDRINUSE:
                raise _refusal(host, port, error) from None


def open_unix(path: Path) -> socket.socket:
    """Listen on a Unix socket that only this user can reach."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        with socket_address(path) as address:
            sock.bind(address)
        os.chmod(path, 0o600)
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def raise_descriptor_limit() -> None:
    """Every client is a descriptor: allow as many as the system lets us have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (ValueError, OSError):
            # "Unlimited" is refused by some kernels; the limit before will do.
            return


def _addresses(host: str, port: int) -> list[tuple[int, str]]:
    if host == "localhost":
        return [(socket.AF_INET, _LOOPBACK[0]), (socket.AF_INET6, _LOOPBACK[1])]
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise UsageError(f"cannot listen on {host!r}: no such address ({error})") from None
    return list(dict.fromkeys((int(family), str(address[0])) for family, _, _, _, address in found))


def _listen_on_all(addresses: list[tuple[int, str]], port: int) -> list[socket.socket]:
    opened: list[socket.socket] = []
    try:
        for family, address in addresses:
            # Further addresses get the port the first one was given.
            actual = opened[0].getsockname()[1] if opened else port
            try:
                opened.append(_listen(family, (address, actual)))
            except OSError as error:
                if opened and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    continue  # a machine without IPv6
                raise
    except OSError:
        for sock in opened:
            sock.close()
        raise
    return opened


def _listen(family: int, address: tuple[str, int]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # Accepted sockets inherit these: no delay for small writes, and a client that does not read is cut off by
        # the kernel, also while a write to it is shielded from cancellation.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(WRITE_TIMEOUT_S * 1000))
        sock.bind(address)
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _refusal(host: str, port: int, error: OSError) -> UsageError:
    place = f"cannot listen on {host or '*'}:{port}"
    if error.errno == errno.EADDRINUSE:
        return UsageError(f"{place}: the port is taken by another program; choose another one with --port")
    if error.errno == errno.EACCES:
        return UsageError(f"{place}: ports below 1024 need privileges; choose another one with --port")
    if error.errno == errno.EADDRNOTAVAIL:
        return UsageError(f"{place}: this machine has no such address")
    return UsageError(f"{place}: {error.strerror}")
