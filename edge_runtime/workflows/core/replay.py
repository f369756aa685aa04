"""The order in which results are given: at replay that of their entries, as in live execution. Pure.

Results are given one at a time, and a recorded one is held back until every step that had been asked for before it has
been asked for again. So a race between steps has the same winner each time.
"""

from __future__ import annotations

from collections import deque

from edge_runtime.workflows.core.operation import Operation, Phase
from edge_runtime.workflows.core.past import Past


class Replay:
    __slots__ = ("_asked", "_ended", "_given", "_late", "_passed", "_skipped", "_start", "delivering", "held", "past")

    def __init__(self) -> None:
        self.past = Past()
        self._start = 0
        """The first row of the past that is neither asked for nor passed over."""
        self._given = 0
        """How many results of the past were given or passed over."""
        self._asked: dict[int, Operation] = {}
        """Steps of the past, by row, that are done and asked for and whose result has its turn yet to come."""
        self._skipped: set[int] = set()
        """Rows whose results were passed over."""
        self._late: deque[Operation] = deque()
        """Steps that were asked for after their results had been passed over."""
        self._ended: deque[Operation] = deque()
        """Done in this activation, result not given; by `done_seq`."""
        self._passed: deque[int] = deque()
        """Rows that were passed over; what the script has asked for since then leaves at the front."""
        self.held = 0
        """How many steps are done and asked for, with their result not given."""
        self.delivering = False
        """A result was given and the script has not had the chance to react to it."""

    def done(self, op: Operation) -> None:
        """A step has its result, in this activation."""
        self._ended.append(op)
        self.held += op.requested

    def found(self, op: Operation) -> bool:
        """The script has asked for a recorded step; returns whether that is done."""
        past = self.past
        row = past.row(op.key)
        assert row is not None, "what the journal has is of the past"
        op.requested = True
        past.request(row)
        self._pass_requested()
        if op.phase is not Phase.DONE:
            return False
        self.held += 1
        if row in self._skipped:
            self._skipped.remove(row)
            self._late.appendleft(op)
        else:
            self._asked[row] = op
        return True

    def _pass_requested(self) -> None:
        past = self.past
        while self._start < past.count and past.requested(self._start):
            self._start += 1

    @property
    def _next(self) -> Operation | None:
        """The step whose result is next; None if the script has not asked for it, or there is none."""
        if self._late:
            return self._late[0]
        if self._given < len(self.past.ended):
            return self._asked.get(self.past.ended[self._given])
        return self._ended[0] if self._ended else None

    @property
    def ready(self) -> Operation | None:
        """The step whose result is next, if nothing holds it back."""
        op = self._next
        if op is None or (self._start < self.past.count and self.past.start(self._start) < op.done_seq):
            return None
        return op

    def give(self) -> None:
        """The result of `ready` goes to the script."""
        if self._late:
            self._late.popleft()
        elif self._given < len(self.past.ended):
            del self._asked[self.past.ended[self._given]]
            self._given += 1
        else:
            self._ended.popleft()
        self.held -= 1
        self.delivering = True

    def pass_over(self) -> None:
        """Hold nothing back any longer for the steps before the first result that the script has asked for."""
        past = self.past
        while (op := self._next) is None:
            row = past.ended[self._given]
            self._skipped.add(row)
            self._passed.append(row)
            self._given += 1
        while self._start < past.count and past.start(self._start) < op.done_seq:
            self._passed.append(self._start)
            self._start += 1
            self._pass_requested()

    @property
    def left_out(self) -> int | None:
        """The entry of a recorded step that the script has gone on without."""
        while self._passed:
            if not self.past.requested(self._passed[0]):
                return self.past.start(self._passed[0])
            self._passed.popleft()
        return None

    @property
    def expected(self) -> int | None:
        """The entry of the recorded step that came next where the script is now; None where the journal does not
        tell."""
        past = self.past
        if self._start == past.count:
            return None
        seq = past.start(self._start)
        if self._given < len(past.ended) and past.result(past.ended[-1]) > seq:
            return seq
        return seq if any(op.done_seq > seq for op in self._late) else None

    def clear(self) -> None:
        """No result is given any more."""
        self._late.clear()
        self._ended.clear()
        self._asked.clear()
        self._start, self._given = self.past.count, len(self.past.ended)
        self.held, self.delivering = 0, False
