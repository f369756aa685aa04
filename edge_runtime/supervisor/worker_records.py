"""What is said of a worker under supervision: its version, why it cannot serve, how it is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from edge_runtime.config.model import WorkerConfig
from edge_runtime.control import MakeTemplate
from edge_runtime.errors import EdgeError
from edge_runtime.limits import CRASH_BACKOFF_MAX_S


@dataclass(frozen=True, slots=True)
class WorkerVersion:
    """A version as it is deployed: its configuration and what a template needs to load it."""

    config: WorkerConfig
    task: MakeTemplate
    classes: tuple[tuple[str, str, str], ...] = ()
    """As in `control.WorkerRoutes`."""
    pins: bool = False
    """Workflow instances may be pinned to this version."""


class WorkerUnavailable(EdgeError):
    """No isolate can take a connection now. `detail` is for the script's author only."""

    def __init__(self, message: str, detail: str, retry_after_s: float) -> None:
        self.detail = detail
        self.retry_after_s = math.ceil(min(max(1, retry_after_s), CRASH_BACKOFF_MAX_S))
        super().__init__(message)


class WorkerState(StrEnum):
    IDLE = "idle"
    STARTING = "starting"
    SERVING = "serving"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """For the admin API."""

    name: str
    version: str
    state: WorkerState
    pids: tuple[int, ...]
    retiring_pids: tuple[int, ...]
    connections: int
    events: int
    actors: int
    cpu_ms: int
    failure: str | None
