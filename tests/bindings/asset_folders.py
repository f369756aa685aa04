"""A folder of assets on disk, and a server of it as a worker would have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import trio

from bindings.assets.files import AssetFolder, read_rules_file
from bindings.assets.globs import IgnoreRules, worker_first
from bindings.assets.rules import parse_rules
from bindings.assets.server import AssetServer, Settings
from edge_runtime.workers.response import Response

T = TypeVar("T")


async def inline(fn: Callable[..., T], /, *args: object) -> T:
    """An Offload without threads."""
    await trio.lowlevel.checkpoint()
    return fn(*args)


def write_files(root: Path, files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def serving(
    root: Path,
    files: dict[str, str | bytes],
    *,
    html: Any = "auto-trailing-slash",
    not_found: Any = "none",
    first: bool | list[str] = False,
    script: bool = True,
    navigation: bool = True,
) -> AssetServer:
    write_files(root, files)
    rules = parse_rules(read_rules_file(root, "_headers"), read_rules_file(root, "_redirects"), html)
    settings = Settings(html, not_found, first if isinstance(first, bool) else worker_first(first), script, navigation)
    return AssetServer(AssetFolder(root, IgnoreRules(read_rules_file(root, ".assetsignore"))), rules, settings, inline)


class Reply:
    """What a client would see of a response."""

    def __init__(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        self.status = status
        self.headers = {name.decode(): value.decode() for name, value in headers}
        self.body = body


async def sent(response: Response | None) -> Reply | None:
    if response is None:
        return None
    outgoing = response._outgoing()
    if isinstance(outgoing.body, bytes):
        stated = b"content-length" in dict(outgoing.headers)  # for HEAD, that of what GET would send
        headers = outgoing.headers if stated else outgoing.headers_with_length
        return Reply(outgoing.status, headers, outgoing.body)
    pieces: list[bytes] = []

    async def keep(piece: bytes) -> None:
        pieces.append(piece)

    await outgoing.body.write_to(keep)
    return Reply(outgoing.status, outgoing.headers, b"".join(pieces))


async def ask(server: AssetServer, target: str, method: str = "GET", **headers: str) -> Reply | None:
    """Through the front door; header names with _ for -."""
    raw = [(b"host", b"example.com")]
    raw += [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return await sent(await server.answer(method, target.encode("latin-1"), raw))
