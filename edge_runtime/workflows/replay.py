"""The order in which results are given: at replay that of their entries, as in live execution. Pure.

Results are given one at a time, and a recorded one is held back until every step that had been asked for before it has
been asked for again. So a race between steps has the same winner each time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from edge_runtime.workflows.journal import StepKind
from edge_runtime.workflows.operation import Operation, Phase


class Replay:
    __slots__ = ("_loaded_seq", "_passed", "_starts", "_undelivered", "delivering", "held")

    def __init__(self) -> None:
        self._starts: deque[Operation] = deque()  # stored before, by seq; those asked for leave at the front
        self._undelivered: deque[Operation] = deque()  # done, result not given; by done_seq
        self._passed: list[Operation] = []  # left out, as far as the script has gone
        self._loaded_seq = 0
        self.held = 0
        """How many steps are done and asked for, with their result not given."""
        self.delivering = False
        """A result was given and the script has not had the chance to react to it."""

    def begin(self, operations: Iterable[Operation], seq: int) -> None:
        """The journal has been read, up to entry `seq`."""
        self._starts.extend(op for op in operations if op.started.step is not StepKind.ROLLBACK)
        self._loaded_seq = seq

    def done(self, op: Operation) -> None:
        self._undelivered.append(op)
        self.held += op.requested

    def found(self, op: Operation) -> bool:
        """The script has asked for a recorded step; returns whether that is done."""
        op.requested = True
        while self._starts and self._starts[0].requested:
            self._starts.popleft()
        if op.phase is not Phase.DONE:
            return False
        self.held += 1
        if op.left_out:
            self._undelivered.appendleft(op)
        return True

    @property
    def ready(self) -> Operation | None:
        """The step whose result is next, if nothing holds it back."""
        if not self._undelivered:
            return None
        op = self._undelivered[0]
        if not op.requested or (self._starts and self._starts[0].started.seq < op.done_seq):
            return None
        return op

    def give(self) -> None:
        """The result of `ready` goes to the script."""
        self._undelivered.popleft()
        self.held -= 1
        self.delivering = True

    def pass_over(self) -> None:
        """Hold nothing back any longer for the steps before the first result that the script has asked for."""
        while not self._undelivered[0].requested:
            self._undelivered[0].left_out = True
            self._passed.append(self._undelivered.popleft())
        while self._starts and self._starts[0].started.seq < self._undelivered[0].done_seq:
            op = self._starts.popleft()
            op.left_out = not op.requested
            self._passed.append(op)

    @property
    def left_out(self) -> Operation | None:
        """A recorded step that the script has gone on without."""
        return next((op for op in self._passed if not op.requested), None) if self._passed else None

    @property
    def expected(self) -> Operation | None:
        """The recorded step that came next where the script is now; None where the journal does not tell."""
        if not self._starts:
            return None
        first = self._starts[0]
        for op in self._undelivered:
            if first.started.seq < op.done_seq <= self._loaded_seq:
                return first
        return None

    def clear(self) -> None:
        """No result is given any more."""
        self._undelivered.clear()
        self._starts.clear()
        self.held, self.delivering = 0, False
