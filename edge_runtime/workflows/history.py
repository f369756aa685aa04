"""The history of one activation: the fold of the instance's entries and of what the script has asked for. Pure.

What the other parts of the engine decide, they append here; what is to be done for it, they add to `effects`.
"""

from __future__ import annotations

from collections.abc import Sequence

from edge_runtime.workflows.effects import Append, Effect
from edge_runtime.workflows.journal import (
    Created,
    Drifted,
    Entry,
    Finished,
    Paused,
    PauseRequested,
    Restarted,
    Resumed,
    RollbackEnded,
    RollbackStarted,
    StepKey,
    StepKind,
    StepStarted,
    StepSucceeded,
)
from edge_runtime.workflows.operation import Operation, Phase
from edge_runtime.workflows.replay import Replay
from edge_runtime.workflows.rollback import Rollback
from edge_runtime.workflows.timetable import Timetable


class History:
    """Invariant: what does not depend on this activation follows from the entries alone."""

    __slots__ = (
        "do_steps",
        "due_ms",
        "effects",
        "faulty",
        "finished",
        "noted",
        "now_ms",
        "open",
        "operations",
        "over",
        "paused",
        "pausing_ms",
        "replay",
        "rollback",
        "seq",
        "timetable",
    )

    def __init__(self, entries: Sequence[Entry], due_ms: int | None) -> None:
        self.seq = 0
        self.operations: dict[StepKey, Operation] = {}
        self.do_steps = 0
        self.noted: set[tuple[StepKey | None, str]] = set()
        self.pausing_ms: int | None = None
        """Since when, from the request until the end of the pause."""
        self.paused = False
        self.rollback: Rollback | None = None
        self.finished = False
        self.open: dict[StepKey, Operation] = {}
        """Asked for and not done."""
        self.timetable = Timetable()
        self.replay = Replay()
        self.due_ms = due_ms
        """The stored timer."""
        self.over = False
        """The activation of the engine has ended, though perhaps not the instance."""
        self.faulty = False
        """It has ended because the script drifted."""
        self.now_ms = 0
        self.effects: list[Effect] = []
        for entry in entries:
            self._absorb(entry)
        self.replay.begin(self.operations.values(), self.seq)

    @property
    def next(self) -> int:
        """The number of the next entry."""
        return self.seq + 1

    def append(self, entry: Entry) -> None:
        self._absorb(entry)
        self.effects.append(Append(entry))

    def ask(self, op: Operation) -> None:
        """The script has asked for a step that was begun just now, or the engine for the undoing of one."""
        op.requested = True
        self.file(op)

    def file(self, op: Operation) -> None:
        """The phase of a step has changed, or the script has asked for it."""
        if not op.requested:
            return
        if op.phase is Phase.DONE:
            self.open.pop(op.key, None)
        else:
            self.open[op.key] = op
        self.timetable.file(op)

    @property
    def waiting(self) -> bool:
        """The script waits for times and events, and for nothing else that the engine knows of."""
        timed = self.timetable.timed
        return bool(timed) and len(self.open) == len(timed) and not self.replay.held

    def _absorb(self, entry: Entry) -> None:
        assert entry.seq == self.seq + 1, "entries are numbered without gaps"
        self.seq = entry.seq
        match entry:
            case StepStarted():
                op = self.operations[entry.key] = Operation.begin(entry)
                self.do_steps += entry.step is StepKind.DO
            case StepSucceeded():
                op = self.operations[entry.key]
                op.absorb(entry)
            case Created():
                return
            case Drifted():
                self.noted.add((entry.key, entry.difference))
                return
            case Finished():
                self.finished = True
                return
            case PauseRequested():
                self.pausing_ms = entry.since_ms
                return
            case Paused():
                self.paused = True
                return
            case Resumed():
                for op in self.operations.values():
                    op.shift(self.pausing_ms or 0, entry.until_ms)
                    self.file(op)
                self.pausing_ms, self.paused = None, False
                return
            case RollbackStarted():
                self.pausing_ms, self.paused = None, False
                self.rollback = Rollback(entry, self.operations)
                return
            case Restarted() | RollbackEnded():
                return
            case _:
                op = self.operations[entry.key]
                op.absorb(entry)
        if op.phase is Phase.DONE and op.started.step is not StepKind.ROLLBACK:
            self.replay.done(op)
        self.file(op)
