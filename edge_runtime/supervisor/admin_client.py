"""Asking a running server through its admin socket, for the command line. Blocking."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from edge_runtime.errors import ScriptError, UsageError
from edge_runtime.socket_paths import socket_address
from edge_runtime.supervisor.bundle import pack
from edge_runtime.supervisor.data_dir import DataDirectory

_TIMEOUT_S: Final = 30.0
_DEPLOY_TIMEOUT_S: Final = 600.0


class NoServer(UsageError):
    """No server runs on the data directory, or it does not answer."""


class AdminRefused(UsageError):
    """The server said no; `status` is its HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        self.status = status
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Deployed:
    name: str
    version: str


def deploy(data_dir: Path, folder: Path, environment: str | None = None) -> Deployed:
    """Send the worker in `folder` to the server; returns once it serves there.

    Raises NoServer; ScriptError if the worker does not load (`detail`: its traceback); AdminRefused otherwise.
    """
    bundle = pack(folder)
    params = {} if environment is None else {"environment": environment}
    answer = _ask(data_dir, "POST", "/workers", params=params, content=bundle, timeout_s=_DEPLOY_TIMEOUT_S)
    return Deployed(answer["name"], answer["version"])


def list_workers(data_dir: Path) -> list[dict[str, Any]]:
    """`worker.WorkerStatus` of each worker as a dictionary. Raises NoServer."""
    workers: list[dict[str, Any]] = _ask(data_dir, "GET", "/workers")["workers"]
    return workers


def health(data_dir: Path) -> dict[str, Any]:
    """`pid` and `development` of the server. Raises NoServer."""
    facts: dict[str, Any] = _ask(data_dir, "GET", "/health")
    return facts


def run_scheduled(data_dir: Path, worker: str, cron: str, scheduled_ms: int) -> None:
    """Have a cron trigger fired now. Raises NoServer, AdminRefused."""
    _ask(data_dir, "POST", f"/workers/{worker}/scheduled", json={"cron": cron, "scheduled_ms": scheduled_ms})


def live_objects(data_dir: Path, worker: str, namespace: str) -> frozenset[str]:
    """Ids of the objects that a running server has in memory; none when none runs."""
    try:
        answer = _ask(data_dir, "GET", f"/workers/{quote(worker, safe='')}/objects/{quote(namespace, safe='')}")
    except NoServer:
        return frozenset()
    except AdminRefused as error:
        if error.status != 404:
            raise
        return frozenset()
    return frozenset(answer["live"])


def poke_timers(data_dir: Path, worker: str) -> None:
    """Tell a running server that timers or messages were written for a worker; nothing happens when none runs."""
    try:
        _ask(data_dir, "POST", f"/workers/{worker}/timers-changed")
    except NoServer:
        return  # whoever starts one reads the timers
    except AdminRefused as error:
        if error.status != 404:
            raise


def _ask(data_dir: Path, method: str, path: str, *, timeout_s: float = _TIMEOUT_S, **request: Any) -> Any:
    import httpx2

    directory = DataDirectory(data_dir)
    if not _listens(directory.admin_socket):
        raise NoServer(f"no server runs on data directory {directory.path}: start one with `edge run`")
    try:
        with (
            socket_address(directory.admin_socket) as address,
            # Certificates are of no use on this socket, and reading them takes 50 ms.
            httpx2.Client(transport=httpx2.HTTPTransport(uds=address, verify=False), base_url="http://edge") as client,
        ):
            response = client.request(method, path, timeout=timeout_s, **request)
    except httpx2.ConnectError:
        raise NoServer(f"no server runs on data directory {directory.path}: start one with `edge run`") from None
    except httpx2.HTTPError as error:
        raise NoServer(f"the server on data directory {directory.path} does not answer: {error}") from None
    if response.is_success:
        return response.json() if response.content else None
    try:
        body = response.json()
        message, detail = str(body["error"]), str(body["detail"])
    except (ValueError, KeyError, TypeError):
        message, detail = f"the server answered with status {response.status_code}", ""
    if detail:
        raise ScriptError(message, detail)
    raise AdminRefused(message, response.status_code)


def _listens(path: Path) -> bool:
    """Whether somebody listens on a Unix socket. The HTTP client would leave the socket open on which it is refused."""
    try:
        with socket_address(path) as address, socket.socket(socket.AF_UNIX) as probe:
            probe.setblocking(False)
            probe.connect(address)
    except BlockingIOError:
        pass  # so many others are asking
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    return True
