"""ASGI apps in a worker: `asgi.fetch(app, request, env)`; scripts import this as `asgi` and `workers.asgi`.

The app runs as work of the event, in the script's own flavour, and goes on in the background (Starlette's background
tasks) as `waitUntil` work does. As on Cloudflare, every request is a whole life of the app: lifespan startup, the
request, lifespan shutdown. Unlike there, a request's body is handed to the app as it arrives, and shutdown waits until
the app has finished.

Source: ASGI 3.0, HTTP spec 2.4 (`send` raises OSError once the client has gone); Cloudflare's runtime SDK for the rest.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from functools import lru_cache
from typing import Any, TypeAlias
from urllib.parse import SplitResult, unquote, urlsplit

import sniffio
import trio

from edge_runtime.compat.app_body import AppBody, BodyPipe, ClientDisconnected
from edge_runtime.compat.app_run import Message, run_app
from edge_runtime.compat.asgi_websocket import WebSocketSession
from edge_runtime.compat.blocking import enter_loop
from edge_runtime.compat.lifespan import ASGI_VERSIONS, is_cancellation
from edge_runtime.event import require_event
from edge_runtime.promise import Promise, PromiseCancelled
from edge_runtime.workers.body import extract
from edge_runtime.workers.headers import RawHeaders, checked_headers
from edge_runtime.workers.request import JsRequest, Request
from edge_runtime.workers.response import Response
from edge_runtime.workers.status import NULL_BODY_STATUSES, allowed, checked_status
from edge_runtime.workers.streams import ReadableStream

AsgiApp: TypeAlias = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]

_log = logging.getLogger("asgi")
_DISCONNECT = "http.disconnect"
_PORTS = {"http": 80, "https": 443}


async def fetch(app: AsgiApp, request: Request | JsRequest, env: Any, ctx: object = None) -> Response:
    """Have `app` answer `request`; returns when the head of its answer is there.

    Args:
        env: given to the app as `scope["env"]`.
        ctx: accepted for Cloudflare's sake; the current event is used.
    Raises:
        What the app raises before it begins to answer. RuntimeError: it did not answer, or its startup failed.
    Cancellation: the app is told that the client has gone and may end its work as `waitUntil` work does.
    """
    event = require_event("asgi.fetch()")
    if isinstance(request, JsRequest):
        request = request.request
    enter_loop()
    exchange = _Exchange(request.body)
    work = event.begin(run_app, app, http_scope(request, env), exchange)
    try:
        return await exchange.answer
    except BaseException:
        exchange.disconnect()
        raise
    finally:
        if not work.settled:
            event.wait_until(work)


async def websocket(app: AsgiApp, request: Request | JsRequest, env: Any = None) -> Response:
    """Have `app` serve a WebSocket; returns the response to be returned from the handler, once the app has accepted.

    The app runs until it returns, as part of this event; it may go on for WAIT_UNTIL_MS after the connection's end. If
    it closes without accepting, the response is 403.

    Raises:
        What the app raises before it accepts. RuntimeError: it did neither, or its startup failed.
    """
    event = require_event("asgi.websocket()")
    if isinstance(request, JsRequest):
        request = request.request
    enter_loop()
    session = WebSocketSession()
    work = event.spawn(event.run, run_app, app, websocket_scope(request, env), session)
    try:
        await session.answer
    finally:
        if not work.settled:
            event.wait_until(work)
    response = session.response()
    if response.web_socket is not None:
        event.keep_open(session.socket.closed)
    return response


class _Exchange:
    """`app_run.Conversation` of one request to an app and its answer."""

    def __init__(self, upload: ReadableStream | None) -> None:
        self.answer: Promise[Response] = Promise()
        self._upload = upload
        self._over: Promise[None] = Promise()
        """Settled when the answer is complete or the client has gone: then `receive` says http.disconnect."""
        self._reading: Callable[[], object] | None = None
        self._uploaded = False
        self._gone = False
        self._status = 0
        self._headers: RawHeaders | None = None
        self._pipe: BodyPipe | None = None
        self._complete = False

    def returned(self) -> None:
        if not self.answer.settled:
            raise RuntimeError("The application did not generate a response")

    def over(self) -> None:
        if self._pipe is not None:
            self._pipe.end()
        self._end()

    def failed(self, error: BaseException) -> None:
        if not self.answer.settled:
            ended = is_cancellation(error)
            self.answer.reject(PromiseCancelled("the application was cancelled before it answered") if ended else error)
        elif not is_cancellation(error) and not isinstance(error, ClientDisconnected):
            _log.error("Exception in ASGI application after response started", exc_info=error)

    def disconnect(self) -> None:
        """Nobody waits for the answer any more."""
        self._gone = True
        self._end()
        if self._reading is not None:
            self._reading()

    def _end(self) -> None:
        if not self._over.settled:
            self._over.resolve(None)

    async def receive(self) -> Message:
        if self._gone:
            return {"type": _DISCONNECT}
        if not self._uploaded:
            if self._upload is None:
                self._uploaded = True
                return {"type": "http.request", "body": b"", "more_body": False}
            piece = await self._next_piece(self._upload)
            if not self._gone:
                self._uploaded = piece is None
                return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}
        await self._over
        return {"type": _DISCONNECT}

    async def _next_piece(self, upload: ReadableStream) -> Any:
        """The next piece of the request's body; None at its end, and when the client goes away meanwhile."""
        if sniffio.thread_local.name != "asyncio":
            with trio.CancelScope() as scope:
                self._reading = scope.cancel
                try:
                    return await upload.next_piece()
                finally:
                    self._reading = None
            return None
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as timeout:
                self._reading = lambda: loop.call_soon(_expire, timeout)
                try:
                    return await upload.next_piece()
                finally:
                    self._reading = None
        except TimeoutError:
            if timeout.expired():
                return None
            raise

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            if self._headers is not None:
                raise RuntimeError("http.response.start was sent twice")
            self._status = message["status"]
            self._headers = checked_headers(message.get("headers", ()))
        elif kind == "http.response.body":
            await self._send_body(message.get("body", b""), message.get("more_body", False))
        else:
            raise RuntimeError(f"an ASGI app sent {kind!r}; allowed: http.response.start, http.response.body")

    async def _send_body(self, body: bytes, more: bool) -> None:
        if self._headers is None:
            raise RuntimeError("http.response.body was sent before http.response.start")
        if self._complete:
            raise RuntimeError("http.response.body was sent after the last piece of the body")
        self._complete = not more
        if self._gone:
            raise ClientDisconnected
        if self._pipe is not None:
            await self._pipe.write(body)
        elif more and self._status not in NULL_BODY_STATUSES:
            self._pipe = BodyPipe(self.disconnect)
            self._respond(AppBody.of_pipe(self._pipe), self._headers)
            await self._pipe.write(body)
        elif not self.answer.settled:
            self._respond(None if self._status in NULL_BODY_STATUSES else bytes(body), self._headers)
        if not more:
            if self._pipe is not None:
                self._pipe.end()
            self._end()

    def _respond(self, body: bytes | AppBody | None, headers: RawHeaders) -> None:
        payload, _ = extract(body, "Response")
        status = checked_status(self._status, None)
        self.answer.resolve(Response._of(status, headers, allowed(payload, status)))


def http_scope(request: Request, env: Any) -> dict[str, Any]:
    """The ASGI connection scope of a request. The client's address is known only if the headers name it."""
    url = urlsplit(request.url)
    headers = list(request._raw_headers)
    client = next((value for name, value in headers if name == b"cf-connecting-ip"), None)
    return {
        "type": "http",
        "asgi": ASGI_VERSIONS,
        "http_version": "1.1",
        "method": request._method,
        "scheme": url.scheme,
        "path": unquote(url.path),
        "raw_path": url.path.encode(),
        "query_string": url.query.encode(),
        "root_path": "",
        "headers": headers,
        "server": _server(url.scheme, url.netloc),
        "client": None if client is None else (client.decode("latin-1"), 0),
        "env": env,
    }


@lru_cache(maxsize=256)
def _server(scheme: str, netloc: str) -> tuple[str | None, int | None]:
    url = SplitResult(scheme, netloc, "", "", "")
    return url.hostname, url.port or _PORTS.get(scheme)


def websocket_scope(request: Request, env: Any) -> dict[str, Any]:
    """The ASGI connection scope of a request for a WebSocket."""
    scope = http_scope(request, env)
    del scope["method"]
    offered = ",".join(value.decode("latin-1") for name, value in scope["headers"] if name == b"sec-websocket-protocol")
    return {
        **scope,
        "type": "websocket",
        "scheme": scope["scheme"].replace("http", "ws"),
        "subprotocols": [name for part in offered.split(",") if (name := part.strip())],
    }


def _expire(timeout: asyncio.Timeout) -> None:
    if not timeout.expired():
        timeout.reschedule(asyncio.get_running_loop().time())


def __getattr__(name: str) -> Any:
    """`env`: FastAPI's dependency that gives a route the worker's bindings. Made when asked for: it needs FastAPI."""
    if name != "env":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    fastapi: Any = importlib.import_module("fastapi")

    async def env(request: Any) -> Any:
        return request.scope["env"]

    env.__annotations__["request"] = fastapi.Request
    dependency = globals()["env"] = fastapi.Depends(env)
    return dependency
