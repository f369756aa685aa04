"""Serving an ASGI application on a Unix socket inside the supervisor, by hypercorn, with its faults kept in.

Each connection is a task of its own that may fail alone. What a handler raises becomes a 500. A client that does not
read cannot hold up the end: hypercorn shields its writes, so their sockets are shut down first.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext

_log = logging.getLogger("edge.admin")
_ACCEPT_WAIT_S: Final = 0.1

Asgi = Callable[[Any, Any, Any], Awaitable[None]]


async def serve_unix(listener: socket.socket, app: Asgi) -> None:
    """Serve until cancelled; closes the listener."""
    config = Config()
    config.errorlog = None
    config.include_server_header = False
    open_streams: set[trio.SocketStream] = set()
    wrapper = ASGIWrapper(_guarded(app))
    context = WorkerContext(None)

    async def serve(client: trio.socket.SocketType) -> None:
        stream = trio.SocketStream(client)
        open_streams.add(stream)
        try:
            await TCPServer(wrapper, config, context, {}, stream)  # type: ignore[arg-type]  # plain ones are served too
        except Exception:
            _log.exception("a connection to the admin API was closed because its protocol handler failed")
        finally:
            open_streams.discard(stream)
            client.close()

    async def shut_down() -> None:
        try:
            await trio.sleep_forever()
        finally:
            for stream in open_streams:
                try:
                    stream.socket.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # closed just now

    with trio.socket.from_stdlib_socket(listener) as accepting:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(shut_down)
            while True:
                try:
                    client, _ = await accepting.accept()
                except OSError:
                    # No descriptors left, or the client has gone.
                    await trio.sleep(_ACCEPT_WAIT_S)
                else:
                    nursery.start_soon(serve, client)


def _guarded(app: Asgi) -> Asgi:
    """Turn whatever the application raises into a 500; trio's cancellation passes."""

    async def guarded(scope: Any, receive: Any, send: Any) -> None:
        started = False

        async def watch(event: Any) -> None:
            nonlocal started
            started = True
            await send(event)

        try:
            await app(scope, receive, watch)
        except trio.Cancelled:
            raise
        except BaseException as error:
            if isinstance(error, BaseExceptionGroup) and error.subgroup(trio.Cancelled) is not None:
                raise
            _log.exception("the admin API failed")
            if not started:
                await send({"type": "http.response.start", "status": 500, "headers": []})
                await send({"type": "http.response.body", "body": b""})

    return guarded
