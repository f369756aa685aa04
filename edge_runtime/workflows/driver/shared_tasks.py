"""What the instances of a workflow have their attempts run and their held starts written by."""

from __future__ import annotations

from edge_runtime.workflows.attempts.workers import AttemptWorkers
from edge_runtime.workflows.driver.held_starts import HeldStarts


class SharedTasks:
    def __init__(self) -> None:
        self.workers = AttemptWorkers()
        self.held_starts = HeldStarts()
