"""The admin API: what the command line asks of a running server, as JSON over HTTP on a Unix socket.

POST /workers                        a bundle as body; `?environment=NAME`       -> 200 {name, version}
GET  /workers                                                                     -> 200 {workers: [...]}
POST /workers/NAME/timers-changed                                                 -> 204
GET  /workers/NAME/objects/NAMESPACE                                              -> 200 {live: [ids in memory]}
POST /workers/NAME/scheduled         {cron, scheduled_ms}                         -> 202
GET  /health                                                                      -> 200 {pid, development}

Errors are {error, detail} with 400 (what was sent), 404 (no such worker), 409 (not on this server), 413, 422 (the
worker does not load) or 503 (it cannot run now). The socket belongs to the user; there is no other authentication.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any, Final, Protocol

import msgspec
from quart import Response, request
from quart_trio import QuartTrio

from edge_runtime.errors import ConfigError, EdgeError, LimitExceeded, ScriptError, StoreError
from edge_runtime.limits import BUNDLE_MAX
from edge_runtime.supervisor.admin_errors import NoSuchWorker, NotHere
from edge_runtime.supervisor.bundle import BadBundle
from edge_runtime.supervisor.worker_records import WorkerStatus, WorkerUnavailable

_DEPLOY_TIMEOUT_S: Final = 600


class Administered(Protocol):
    """What the API acts on: the server."""

    development: bool

    def statuses(self) -> list[WorkerStatus]: ...

    async def deploy(self, bundle: bytes, environment: str | None) -> tuple[str, str]:
        """Returns name and version. Raises BadBundle, ConfigError, ScriptError, NotHere."""

    def timers_changed(self, worker: str) -> None:
        """Raises NoSuchWorker."""

    async def list_objects(self, worker: str, namespace: str) -> list[str]:
        """Raises NoSuchWorker."""

    async def run_scheduled(self, worker: str, cron: str, scheduled_ms: int) -> None:
        """Raises NoSuchWorker, WorkerUnavailable."""


class _Scheduled(msgspec.Struct, forbid_unknown_fields=True):
    cron: str
    scheduled_ms: int


def make_admin_app(server: Administered) -> QuartTrio:
    app = QuartTrio("edge_admin", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = BUNDLE_MAX
    app.config["BODY_TIMEOUT"] = _DEPLOY_TIMEOUT_S
    app.config["RESPONSE_TIMEOUT"] = _DEPLOY_TIMEOUT_S

    @app.get("/health")
    async def health() -> dict[str, Any]:
        return {"pid": os.getpid(), "development": server.development}

    @app.get("/workers")
    async def workers() -> dict[str, Any]:
        return {"workers": [asdict(status) for status in server.statuses()]}

    @app.post("/workers")
    async def deploy() -> dict[str, Any]:
        bundle = await request.get_data(cache=False, as_text=False)
        assert isinstance(bundle, bytes)
        name, version = await server.deploy(bundle, request.args.get("environment") or None)
        return {"name": name, "version": version}

    @app.post("/workers/<name>/timers-changed")
    async def timers_changed(name: str) -> tuple[str, int]:
        server.timers_changed(name)
        return "", 204

    @app.get("/workers/<name>/objects/<namespace>")
    async def objects(name: str, namespace: str) -> dict[str, Any]:
        return {"live": await server.list_objects(name, namespace)}

    @app.post("/workers/<name>/scheduled")
    async def scheduled(name: str) -> tuple[str, int]:
        try:
            task = msgspec.json.decode(await request.get_data(), type=_Scheduled)
        except msgspec.DecodeError as error:
            raise BadBundle(f"the body is not {{cron, scheduled_ms}}: {error}") from None
        await server.run_scheduled(name, task.cron, task.scheduled_ms)
        return "", 202

    @app.errorhandler(EdgeError)
    async def failed(error: EdgeError) -> Response:
        body = {"error": str(error), "detail": getattr(error, "detail", "")}
        return Response(msgspec.json.encode(body), status=_status_of(error), content_type="application/json")

    return app


def _status_of(error: EdgeError) -> int:
    match error:
        case NoSuchWorker():
            return 404
        case NotHere():
            return 409
        case LimitExceeded():
            return 413
        case ConfigError() | ScriptError():
            return 422
        case WorkerUnavailable():
            return 503
        case StoreError():
            return 500
        case _:
            return 400
