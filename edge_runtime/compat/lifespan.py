"""The ASGI lifespan protocol around one request: startup before it, shutdown after it, as Cloudflare does it.

The request is served inside the app's second `receive()`, where an app waits for shutdown. So a life costs no task of
its own, and what the app opens at startup (a nursery, a task group, a client) encloses the request in its own task.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any
from weakref import WeakSet

import trio

from edge_runtime.compat.starlette_lifespan import has_idle_lifespan

ASGI_VERSIONS = {"version": "3.0", "spec_version": "2.4"}

_log = logging.getLogger("asgi")
_without_lifespan: WeakSet[Any] = WeakSet()
"""Apps that answered startup by raising or returning."""
_idle: WeakSet[Any] = WeakSet()
"""Apps that were started once and do nothing at startup; they may be given something to do later."""


class Lifespan:
    """One life of an app. `serve(state)` is the request; it is called once, unless startup fails."""

    __slots__ = ("_app", "_asked", "_failure", "_serve", "_served", "_started", "_state")

    def __init__(self, app: Any, serve: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        self._app = app
        self._serve = serve
        self._state: dict[str, Any] = {}
        self._asked = False
        self._started = False
        self._failure: str | None = None
        self._served = False

    async def run(self) -> None:
        """Startup, request, shutdown. RuntimeError with the app's message if its startup failed.

        An app that does not know the protocol is served all the same and not asked again. What goes wrong at shutdown
        is logged.
        """
        if not _is_spared(self._app):
            scope = {"type": "lifespan", "asgi": ASGI_VERSIONS, "state": self._state}
            try:
                await self._app(scope, self._receive, self._send)
            except BaseException as error:
                if is_cancellation(error):
                    raise
                if self._started:
                    _log.error("Exception in ASGI lifespan application", exc_info=error)
            if self._failure is not None:
                raise RuntimeError(self._failure)
            if not self._started:
                _remember(_without_lifespan, self._app)
            elif has_idle_lifespan(self._app):
                _remember(_idle, self._app)
        await self._serve_once()

    async def _serve_once(self) -> None:
        if not self._served:
            self._served = True
            await self._serve(dict(self._state))

    async def _receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "lifespan.startup"}
        if self._started:
            await self._serve_once()
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: Any) -> None:
        kind = message["type"]
        if kind == "lifespan.startup.complete":
            self._started = True
        elif kind == "lifespan.startup.failed":
            self._failure = message.get("message") or "ASGI lifespan startup failed"
        elif kind == "lifespan.shutdown.failed":
            _log.error("%s", message.get("message") or "ASGI lifespan shutdown failed")
        elif kind != "lifespan.shutdown.complete":
            raise RuntimeError(f"Unexpected lifespan event {kind}")


def is_cancellation(error: BaseException) -> bool:
    """Whether an error carries a cancellation that must go on to the scope or task it belongs to."""
    if isinstance(error, BaseExceptionGroup):
        return error.split((trio.Cancelled, asyncio.CancelledError))[0] is not None
    return isinstance(error, (trio.Cancelled, asyncio.CancelledError))


def _is_spared(app: Any) -> bool:
    try:
        return (app in _idle and has_idle_lifespan(app)) or app in _without_lifespan
    except TypeError:
        return False


def _remember(apps: WeakSet[Any], app: Any) -> None:
    try:
        apps.add(app)
    except TypeError:
        return  # cannot be remembered; it is asked again at the next request
