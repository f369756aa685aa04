"""What is known of the undoing of an instance's steps, once it has begun. Pure.

The handlers are the script's, so they are there only once the script has asked for their steps in this activation.
Where it has not, it runs again from the top first: recorded steps give their results, everything else is held back.
Source: Cloudflare's engine (workflows-shared, lib/rollback.ts).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final

from edge_runtime.store.values import ErrorRecord
from edge_runtime.workflows.core.effects import Error, Result, Undo, Value
from edge_runtime.workflows.core.journal import RollbackStarted, StepKey, rollback_key
from edge_runtime.workflows.core.operation import Operation, Phase

TERMINATED: Final = ErrorRecord("Terminated", "Instance terminated during rollback")
"""What handlers see when `terminate` is why they run. Cloudflare's text."""
MISSING: Final = ErrorRecord("RollbackMissing", "Rollback function not available in registry")
REFUSED: Final = ErrorRecord("WorkflowFatalError", "Cannot execute steps during rollback phase")


class RollbackPhase(Enum):
    GATHERING = auto()  # the script runs, to name its handlers
    STOPPING = auto()  # it is being cancelled
    UNDOING = auto()


class Rollback:
    def __init__(self, started: RollbackStarted, operations: Mapping[StepKey, Operation]) -> None:
        self.started = started
        self.phase = RollbackPhase.GATHERING
        self.steps = undoable(operations)
        self._operations = operations

    @property
    def gathered(self) -> bool:
        return all(step.requested for step in self.steps)

    @property
    def next(self) -> tuple[Operation, Operation | None] | None:
        """The step to be undone now, and what undoes it if that has begun; None once all are or one failed."""
        for step in self.steps:
            undo = self._operations.get(rollback_key(step.key))
            if undo is None or undo.phase is not Phase.DONE:
                return step, undo
            if isinstance(undo.result, Error):
                return None
        return None

    @property
    def completed(self) -> int:
        undone = (self._operations.get(rollback_key(step.key)) for step in self.steps)
        return sum(undo is not None and isinstance(undo.result, Value) for undo in undone)

    def undo(self, step: Operation, result: Result | None) -> Undo:
        return Undo(step.key, max(step.attempt, 1), result, self.started.error)


def undoable(operations: Mapping[StepKey, Operation]) -> list[Operation]:
    """The steps that have a handler, last begun first."""
    steps = [operation for operation in operations.values() if operation.started.rollback is not None]
    return sorted(steps, key=lambda step: step.started.seq, reverse=True)
