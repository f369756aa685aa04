"""Apps of Starlette and FastAPI whose lifespan does nothing: a life for each request would cost them a fifth more.

Only a matter of speed: another version, a subclass or a middleware, and the app is asked as any other.
"""

from __future__ import annotations

import sys
from typing import Any

_APPS = frozenset({("starlette.applications", "Starlette"), ("fastapi.applications", "FastAPI")})


def has_idle_lifespan(app: Any) -> bool:
    """Whether startup and shutdown of `app` call nothing of the script's, nor anything that it has configured."""
    kind = type(app)
    if (kind.__module__, kind.__qualname__) not in _APPS or getattr(app, "user_middleware", True):
        return False
    router = getattr(app, "router", None)
    lifespan = type(getattr(router, "lifespan_context", None))
    if lifespan.__name__ != "_DefaultLifespan" or lifespan.__module__ not in ("starlette.routing", "fastapi.routing"):
        return False
    if getattr(router, "on_startup", None) or getattr(router, "on_shutdown", None):
        return False
    telemetry = sys.modules.get("fastapi.telemetry._runtime")
    return telemetry is None or not getattr(telemetry, "_owned", True)  # what it owns is flushed at shutdown
