"""What the instances of one workflow have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edge_runtime.limits import STEPS_DEFAULT
from edge_runtime.workflows.attempts.interception import Interceptor


@dataclass(frozen=True, slots=True)
class WorkflowDefinition:
    name: str
    entrypoint: Callable[[Any, Any], Any]
    """The script's class; called with ctx and env for each activation."""
    env: Any
    implicit_dependencies: bool = True
    steps_max: int = STEPS_DEFAULT
    strict: bool = True
    """Instances whose script drifts from their journal are stopped."""
    version: str = ""
    """Of the script."""
    pins: bool = False
    """Instances that begin are pinned to this version, which other isolates run."""
    tell: Callable[[str], object] = lambda worker: None
    """Have the isolates of a worker, or of a pinned version of one, look at their timers."""
    interceptor: Interceptor | None = None
