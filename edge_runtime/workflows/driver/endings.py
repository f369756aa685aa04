"""How an engine ended, and how the event of its activation is told of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from edge_runtime.errors import CpuLimitExceeded
from edge_runtime.event import Outcome
from edge_runtime.workflows.core.effects import Finish
from edge_runtime.workflows.script.errors import DRIFT

_SUSPENDED: Final = "suspended"


@dataclass(frozen=True, slots=True)
class Ended:
    """How the engine ended. `finish` is None where the instance has not: it is paused, or begins another activation
    (`relaunch`), or is stopped; then `fault` tells the difference."""

    finish: Finish | None = None
    fault: str = ""
    relaunch: bool = False


def outcome_of_end(ended: Ended | None, id: str) -> tuple[Outcome, str, str]:
    """(outcome, detail, error's text) of the event; `ended` is None where the instance was only suspended."""
    if ended is not None and ended.fault:
        return Outcome.EXCEPTION, f"{id} stopped", f"{DRIFT}: {ended.fault}\n"
    if ended is None or ended.finish is None:
        return Outcome.OK, f"{id} {_SUSPENDED}", ""
    finish = ended.finish
    error = finish.error
    text = "" if error is None else error.traceback or f"{error.name}: {error.message}"
    outcome = Outcome.OK if error is None else Outcome.EXCEPTION
    if error is not None and error.name == CpuLimitExceeded.__name__:
        outcome = Outcome.EXCEEDED_CPU
    return outcome, f"{id} {finish.status}", text
