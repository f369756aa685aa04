"""Where a data directory's sockets and locks are, and addresses for paths that are too long for a socket's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_SOCKET_PATH_MAX: Final = 107  # bytes in sockaddr_un, without the final zero


def ingress_socket(data_dir: Path) -> Path:
    """The socket on which the supervisor takes connections from its own isolates."""
    return data_dir / "run" / "ingress.sock"


def isolates_lock(data_dir: Path) -> Path:
    """The file that every isolate holds a shared record lock on as long as its process lives."""
    return data_dir / "run" / "isolates.lock"


@contextmanager
def socket_address(path: Path) -> Iterator[str]:
    """An address by which a Unix socket at `path` can be bound or connected to while the context lasts.

    Paths of sockets are limited to 107 bytes; a longer one is reached through a descriptor of its folder.
    """
    if len(os.fsencode(path)) <= _SOCKET_PATH_MAX:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
