"""What the script waits for: times, soonest first, and events by type; and events that no wait has taken yet. Pure."""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush, nsmallest
from typing import Final

from edge_runtime.workflows.core.effects import EventArrived
from edge_runtime.workflows.core.journal import StepKey
from edge_runtime.workflows.core.operation import Operation, Phase

_AT_REST: Final = frozenset({Phase.SLEEPING, Phase.WAITING, Phase.RETRYING})


class Timetable:
    """Invariant: `timed` holds those open steps that wait for a time or an event; `file` tells of each change."""

    __slots__ = ("_dues", "_events", "_waits", "timed")

    def __init__(self) -> None:
        self.timed: dict[StepKey, Operation] = {}
        self._dues: list[tuple[int, int, StepKey]] = []  # a heap; also of what is due then no more
        self._waits: dict[str, dict[StepKey, Operation]] = {}  # those that wait for an event, by its type
        self._events: dict[str, deque[EventArrived]] = {}

    def file(self, op: Operation) -> None:
        if op.phase in _AT_REST:
            self.timed[op.key] = op
            if op.due_ms is not None:
                heappush(self._dues, (op.due_ms, op.started.seq, op.key))
            if op.phase is Phase.WAITING:
                self._waits.setdefault(op.started.event_type, {})[op.key] = op
        elif self.timed.pop(op.key, None) is not None:
            waits = self._waits.get(op.started.event_type)
            if waits is not None:
                waits.pop(op.key, None)

    def clear(self) -> None:
        self.timed.clear()
        self._waits.clear()

    # Times

    @property
    def soonest(self) -> Operation | None:
        """What is due next of all that waits."""
        while self._dues:
            due_ms, _, key = self._dues[0]
            op = self.timed.get(key)
            if op is not None and op.due_ms == due_ms:
                return op
            heappop(self._dues)
        return None

    def pop_due(self, now_ms: int) -> Operation | None:
        op = self.soonest
        if op is None or (op.due_ms or 0) > now_ms:
            return None
        heappop(self._dues)
        return op

    def awaited(self, limit: int) -> list[Operation]:
        """What the script waits for, soonest first."""
        return nsmallest(limit, self.timed.values(), key=lambda op: (op.due_ms or 0, op.started.seq))

    def sleeps_until(self) -> int | None:
        """When the first sleep or retry ends, where nothing else is waited for."""
        soonest = None if any(self._waits.values()) else self.soonest
        return None if soonest is None else soonest.due_ms

    # Events

    def buffer(self, event: EventArrived) -> None:
        """Keep an event for the first wait of its type."""
        self._events.setdefault(event.event_type, deque()).append(event)

    def matches(self, now_ms: int) -> list[tuple[Operation, EventArrived]]:
        """Take the events that go to waits of their type, oldest to oldest; a wait takes none sent after its end."""
        if not self._waits or not self._events:
            return []
        waits = [op for event_type in self._events for op in self._waits.get(event_type, {}).values()]
        waits.sort(key=lambda op: op.started.seq)
        found: list[tuple[Operation, EventArrived]] = []
        for op in waits:
            buffered = self._events.get(op.started.event_type)
            if not buffered:
                continue
            event = buffered[0]
            if op.due_ms is not None and event.sent_ms > op.due_ms and now_ms >= op.due_ms:
                continue
            buffered.popleft()
            if not buffered:
                del self._events[op.started.event_type]
            found.append((op, event))
        return found
