"""The history of one activation: the fold of the instance's entries and of what the script has asked for. Pure.

Of steps that are over only what is still needed is kept: their places in the journal (`past`), and those to be undone.
What the other parts of the engine decide, they append here; what is to be done for it, they add to `effects`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from edge_runtime.workflows.core.effects import Append, Effect, Result, Value
from edge_runtime.workflows.core.journal import (
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
from edge_runtime.workflows.core.operation import Operation, Phase, result_of
from edge_runtime.workflows.core.replay import Replay
from edge_runtime.workflows.core.rollback import Rollback
from edge_runtime.workflows.core.timetable import Timetable

# Members of an enum are found by its metaclass, which takes longer than a global; these are asked for at every step.
_DO: Final = StepKind.DO
_ROLLBACK: Final = StepKind.ROLLBACK
_DONE: Final = Phase.DONE
_RUNS: Final = frozenset((Phase.RUNNING, Phase.DONE))

Recall = Callable[[int], Entry]
"""Gives an entry of the journal, by its number. It is stored, or was appended and is durable."""


class History:
    """Invariant: what does not depend on this activation follows from the entries alone."""

    __slots__ = (
        "_recall",
        "created",
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

    def __init__(self, recall: Recall, due_ms: int | None) -> None:
        self._recall = recall
        self.seq = 0
        self.created: Created | None = None
        self.operations: dict[StepKey, Operation] = {}
        """Steps that are open, those whose result the script waits for, and those to be undone if it comes to that."""
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

    def load(self, entries: Iterable[Entry]) -> None:
        """Take the entries that are stored, in order, before anything else."""
        past = self.replay.past
        for entry in entries:
            op = self._absorb(entry)
            if op is None or op.started.step is StepKind.ROLLBACK:
                continue
            if isinstance(entry, StepStarted):
                past.begin(op.key, entry.seq)
            if op.phase is Phase.DONE:
                row = past.row(op.key)
                assert row is not None, "what is done has begun"
                past.end(row, op.done_seq)
                self._forget_result(op)

    def find(self, key: StepKey) -> Operation | None:
        """A step that was begun in this or an earlier activation."""
        op = self.operations.get(key)
        if op is None:
            past = self.replay.past
            row = past.row(key) if past.count else None
            if row is None:
                return None
            op = self.operations[key] = Operation.begin(self.started(past.start(row)))
            op.absorb_end(past.result(row))
        return op

    def started(self, seq: int) -> StepStarted:
        """The beginning of a step, from the journal."""
        entry = self._recall(seq)
        assert isinstance(entry, StepStarted), "a step begins with its start"
        return entry

    def result(self, op: Operation) -> Result:
        """The result of a step that is done."""
        return result_of(self._recall(op.done_seq)) if op.result is None else op.result

    def given(self, op: Operation) -> None:
        """The script has the result of a step, which may be large."""
        self._forget_result(op)

    def _forget_result(self, op: Operation) -> None:
        if op.started.rollback is None:
            del self.operations[op.key]
        else:
            op.result = None

    @property
    def next(self) -> int:
        """The number of the next entry."""
        return self.seq + 1

    def append(self, entry: Entry) -> None:
        op = self._absorb(entry)
        self.effects.append(Append(entry))
        if op is not None:
            if op.phase is _DONE and op.started.step is not _ROLLBACK:
                self.replay.done(op)
            self.file(op)

    def ask(self, op: Operation) -> None:
        """The script has asked for a step that was begun just now, or the engine for the undoing of one."""
        op.requested = True
        self.file(op)

    def file(self, op: Operation) -> None:
        """The phase of a step has changed, or the script has asked for it."""
        if not op.requested:
            return
        phase = op.phase
        if phase is _DONE:
            self.open.pop(op.key, None)
        else:
            self.open[op.key] = op
        if self.timetable.timed or phase not in _RUNS:
            self.timetable.file(op)

    @property
    def waiting(self) -> bool:
        """The script waits for times and events, and for nothing else that the engine knows of."""
        timed = self.timetable.timed
        return bool(timed) and len(self.open) == len(timed) and not self.replay.held

    def _absorb(self, entry: Entry) -> Operation | None:
        """The step that the entry is of, if it is of one."""
        assert entry.seq == self.seq + 1, "entries are numbered without gaps"
        self.seq = entry.seq
        match entry:
            case StepStarted():
                op = self.operations[entry.key] = Operation.begin(entry)
                self.do_steps += entry.step is _DO
            case StepSucceeded():
                op = self.operations[entry.key]
                op.absorb_end(entry.seq)
                op.result = Value(entry.value)
            case Created():
                self.created = entry
                return None
            case Drifted():
                self.noted.add((entry.key, entry.difference))
                return None
            case Finished():
                self.finished = True
                return None
            case PauseRequested():
                self.pausing_ms = entry.since_ms
                return None
            case Paused():
                self.paused = True
                return None
            case Resumed():
                for op in self.operations.values():
                    op.shift(self.pausing_ms or 0, entry.until_ms)
                    self.file(op)
                self.pausing_ms, self.paused = None, False
                return None
            case RollbackStarted():
                self.pausing_ms, self.paused = None, False
                self.rollback = Rollback(entry, self.operations)
                return None
            case Restarted() | RollbackEnded():
                return None
            case _:
                op = self.operations[entry.key]
                op.absorb(entry)
        return op
