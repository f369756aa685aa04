"""The data directory: its layout, and the lock that gives it to one server at a time."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from edge_runtime.errors import DataDirectoryInUse, StoreError
from edge_runtime.limits import LEFT_OVER_WAIT_S
from edge_runtime.socket_paths import ingress_socket, isolates_lock

_LOOK_S: Final = 0.01


class DataDirectory:
    """Paths below a data directory. Making the object touches nothing; `lock` creates the layout."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.store = self.path / "store"
        self.run = self.path / "run"
        self.deployments = self.path / "deployments"
        self.packages = self.path / "packages"
        self.ingress_socket = ingress_socket(self.path)
        self.admin_socket = self.run / "admin.sock"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the directory exclusively; the kernel gives it back when the process ends, however that happens.

        Isolates of a server that was killed end right after it; they are waited for, so that no actor lives in one of
        them and in one of ours.

        Raises:
            DataDirectoryInUse: another server holds it.
            StoreError: it cannot be created or written, or isolates of the last server do not end.
        """
        descriptor = self._open()
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DataDirectoryInUse(str(self.path), _pid_in(descriptor)) from None
            except OSError as error:
                raise StoreError(f"cannot lock data directory {self.path}: {error.strerror}") from None
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            self._wait_for_isolates()
            for left_over in (self.ingress_socket, self.admin_socket):
                left_over.unlink(missing_ok=True)
            yield
            os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)

    def _wait_for_isolates(self) -> None:
        with open(isolates_lock(self.path), "w", opener=_private) as file:
            until_s = time.monotonic() + LEFT_OVER_WAIT_S
            while True:
                try:
                    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    if time.monotonic() > until_s:
                        raise StoreError(
                            f"isolates of the last server on data directory {self.path} are still running after "
                            f"{LEFT_OVER_WAIT_S:g} s; end them (processes named edge-isolate)"
                        ) from None
                    time.sleep(_LOOK_S)
                else:
                    return

    def _open(self) -> int:
        try:
            for folder in (self.path, self.store, self.run, self.deployments, self.packages):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(f"cannot use data directory {self.path}: {error.strerror} ({error.filename})") from None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _pid_in(descriptor: int) -> int:
    text = os.pread(descriptor, 32, 0).strip()
    return int(text) if text.isdigit() else 0
