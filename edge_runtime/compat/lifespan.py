"""The ASGI lifespan protocol for one request: startup before it, shutdown after it, as Cloudflare does it.

Startup and shutdown for each request look wasteful, but what an app opens at startup (clients, streams, tasks) belongs
to the event that opened it, here and on Cloudflare, and could not be used by the next one. Apps that do not know the
protocol cost it once.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any
from weakref import WeakSet

import trio

from edge_runtime.event import EventContext
from edge_runtime.promise import Promise, PromiseCancelled

ASGI_VERSIONS = {"version": "3.0", "spec_version": "2.4"}

_log = logging.getLogger("asgi")
_without_lifespan: WeakSet[Any] = WeakSet()
"""Apps that answered startup by raising or returning."""


class Lifespan:
    """One cycle. `start`, then `stop` in any case unless cancelled."""

    __slots__ = ("_app", "_event", "_started", "_state", "_stop_wanted", "_stopped", "_told")

    def __init__(self, app: Any, event: EventContext) -> None:
        self._app = app
        self._event = event
        self._state: dict[str, Any] = {}
        self._started: Promise[bool] = Promise()
        self._stop_wanted: Promise[None] = Promise()
        self._stopped: Promise[None] | None = None
        self._told = False

    async def start(self) -> dict[str, Any]:
        """Returns the state for the request's scope. RuntimeError with the app's message if its startup failed."""
        if _lacks_lifespan(self._app):
            return {}
        running = self._event.spawn(self._event.run, self._run)
        if await self._started:
            self._stopped = running
        return dict(self._state)

    async def stop(self) -> None:
        """Have the app shut down; what goes wrong is logged."""
        if self._stopped is not None:
            self._stop_wanted.resolve(None)
            await self._stopped

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": ASGI_VERSIONS, "state": self._state}
        try:
            await self._app(scope, self._receive, self._send)
        except (trio.Cancelled, asyncio.CancelledError):
            if not self._started.settled:
                self._started.reject(PromiseCancelled("the event of this request has ended"))
            raise
        except BaseException as error:
            if self._started.settled and self._started.error is None:
                _log.error("Exception in ASGI lifespan application", exc_info=error)
        if not self._started.settled:
            _remember_without_lifespan(self._app)
            self._started.resolve(False)

    async def _receive(self) -> dict[str, Any]:
        if not self._told:
            self._told = True
            return {"type": "lifespan.startup"}
        await self._stop_wanted
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: Any) -> None:
        kind = message["type"]
        if kind == "lifespan.startup.complete":
            if not self._started.settled:
                self._started.resolve(True)
        elif kind == "lifespan.startup.failed":
            if not self._started.settled:
                self._started.reject(RuntimeError(message.get("message") or "ASGI lifespan startup failed"))
        elif kind == "lifespan.shutdown.failed":
            _log.error("%s", message.get("message") or "ASGI lifespan shutdown failed")
        elif kind != "lifespan.shutdown.complete":
            raise RuntimeError(f"Unexpected lifespan event {kind}")


def _lacks_lifespan(app: Any) -> bool:
    try:
        return app in _without_lifespan
    except TypeError:
        return False


def _remember_without_lifespan(app: Any) -> None:
    try:
        _without_lifespan.add(app)
    except TypeError:
        return  # cannot be remembered; it is asked again at the next request
