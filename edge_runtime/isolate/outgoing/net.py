"""The network of one isolate: requests by httpx2, WebSockets by h11 and wsproto."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import trio

from edge_runtime.isolate.outgoing.websocket import ask_for_socket
from edge_runtime.workers.http_net import HttpNet
from edge_runtime.workers.network import Hop, Net, Reply

_PORTS = {"http": 80, "https": 443}


class _IsolateNet:
    """`workers.network.Net`."""

    def __init__(self, http: HttpNet, nursery: trio.Nursery) -> None:
        self._http = http
        self._nursery = nursery
        self._tls: ssl.SSLContext | None = None

    async def send(self, hop: Hop) -> Reply:
        return await self._http.send(hop)

    async def upgrade(self, hop: Hop) -> Reply:
        parts = urlsplit(hop.url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        host = parts.netloc.rpartition("@")[2]
        try:
            stream = await self._connect(parts.scheme, parts.hostname or "", parts.port or _PORTS[parts.scheme])
            return await ask_for_socket(stream, self._nursery, host.encode(), target.encode(), hop.headers)
        except OSError as error:
            raise OSError(f"GET {hop.url}: {error}") from error

    async def _connect(
        self, scheme: str, host: str, port: int
    ) -> trio.SocketStream | trio.SSLStream[trio.SocketStream]:
        stream = await trio.open_tcp_stream(host, port)
        if scheme != "https":
            return stream
        secure = trio.SSLStream(stream, self._trust(), server_hostname=host, https_compatible=True)
        try:
            await secure.do_handshake()
        except trio.BrokenResourceError as error:
            await trio.aclose_forcefully(stream)
            raise OSError(str(error.__cause__ or error)) from error
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return secure

    def _trust(self) -> ssl.SSLContext:
        """Certificates are checked as for every other fetch."""
        if self._tls is None:
            import httpx2

            self._tls = httpx2.create_ssl_context()
        return self._tls


@asynccontextmanager
async def open_net() -> AsyncIterator[Net]:
    """The network, for as long as the context lasts; WebSockets to servers that are open then are cut off."""
    async with HttpNet() as http, trio.open_nursery() as nursery:
        yield _IsolateNet(http, nursery)
        nursery.cancel_scope.cancel()
