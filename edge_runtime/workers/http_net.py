"""The network by httpx2: one pool of connections per isolate, opened at the first fetch."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import trio

from edge_runtime.workers.network import Hop, Reply
from edge_runtime.workers.streams import ReadableStream

if TYPE_CHECKING:
    import httpx2

_KEEP_ALIVE_CONNECTIONS = 32
_KEEP_ALIVE_S = 30.0
_DECODED = (b"content-encoding", b"content-length")


class HttpNet:
    """An implementation of `Net`. Use as an async context manager around everything that fetches."""

    def __init__(self) -> None:
        self._client: httpx2.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client is not None:
            with trio.CancelScope(shield=True):
                await self._client.aclose()

    async def send(self, hop: Hop) -> Reply:
        import httpx2

        client = self._client or self._open()
        headers = list(hop.headers)
        names = {name for name, _ in headers}
        if b"accept-encoding" not in names:
            headers.append((b"accept-encoding", b"gzip, deflate"))
        if b"accept" not in names:
            headers.append((b"accept", b"*/*"))
        try:
            if isinstance(hop.body, ReadableStream):
                response = await _send_stream(client, hop, headers, hop.body)
            else:
                request = httpx2.Request(hop.method, hop.url, headers=headers, content=hop.body)
                response = await client.send(request, stream=True)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise _no_answer(hop, error) from error
        return _reply(hop, response)

    def _open(self) -> httpx2.AsyncClient:
        import httpx2

        self._client = httpx2.AsyncClient(
            timeout=None,
            follow_redirects=False,
            limits=httpx2.Limits(
                max_connections=None,
                max_keepalive_connections=_KEEP_ALIVE_CONNECTIONS,
                keepalive_expiry=_KEEP_ALIVE_S,
            ),
        )
        # Cookies belong to scripts: what one event was given must not travel with another's request.
        self._client.cookies.jar.set_policy(_no_cookies())
        return self._client


def _no_cookies() -> Any:
    from http.cookiejar import DefaultCookiePolicy

    return DefaultCookiePolicy(allowed_domains=[])


def _reply(hop: Hop, response: httpx2.Response) -> Reply:
    import httpx2

    encoded = "content-encoding" in response.headers
    raw = [(name.lower(), value) for name, value in response.headers.raw if not (encoded and name.lower() in _DECODED)]
    pieces = response.aiter_bytes()

    async def receive() -> bytes | None:
        try:
            async for piece in pieces:
                if piece:
                    return piece
        except httpx2.HTTPError as error:
            raise OSError(f"the response of {hop.url} broke off: {error or type(error).__name__}") from error
        except httpx2.StreamError as error:
            raise OSError("the response body can no longer be read: its event has ended") from error
        return None

    return Reply(response.status_code, response.reason_phrase, raw, receive, response.aclose)


async def _send_stream(
    client: httpx2.AsyncClient, hop: Hop, headers: list[tuple[bytes, bytes]], stream: ReadableStream
) -> httpx2.Response:
    """Send a body that is produced while it is sent. What its producer raises ends the request and is raised."""
    import httpx2

    pieces_in, pieces = trio.open_memory_channel[bytes](0)
    failed: Exception | None = None
    response: httpx2.Response | None = None

    async def produce() -> None:
        nonlocal failed
        try:
            async with pieces_in:
                await stream.write_to(pieces_in.send)
        except trio.BrokenResourceError:
            pass  # The server answered without reading the rest.
        except Exception as error:
            failed = error
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(produce)
        async with pieces:
            request = httpx2.Request(hop.method, hop.url, headers=headers, content=_not_empty(pieces))
            response = await client.send(request, stream=True)
        nursery.cancel_scope.cancel()
    if failed is not None:
        if response is not None:
            await response.aclose()
        raise failed
    assert response is not None
    return response


async def _not_empty(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for piece in pieces:
        if piece:
            yield piece


def _no_answer(hop: Hop, error: Exception) -> OSError:
    return OSError(f"{hop.method} {hop.url}: {error or type(error).__name__}")
