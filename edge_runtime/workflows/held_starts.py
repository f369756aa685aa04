"""The starts of attempts that wait to be written together with their results, and their longest wait."""

from __future__ import annotations

from collections import deque
from typing import Protocol

import trio

from edge_runtime.event import EventContext
from edge_runtime.limits import START_HELD_MS


class HeldStart(Protocol):
    def write_held(self, first_seq: int) -> int | None:
        """The entry `first_seq` has waited for as long as it may: write it, if it waits still. Returns the first entry
        that is to be looked after next, None where there is none."""


class HeldStarts:
    """One task looks after all instances of a workflow."""

    def __init__(self) -> None:
        self._held: deque[tuple[float, HeldStart, int]] = deque()
        self._watched = False

    def watch(self, start: HeldStart, first_seq: int, event: EventContext) -> None:
        """`event`: where the task is started."""
        self._held.append((trio.current_time() + START_HELD_MS / 1000, start, first_seq))
        if not self._watched:
            self._watched = True
            event.start(self._run)

    async def _run(self) -> None:
        try:
            while self._held:
                await trio.sleep_until(self._held[0][0])
                now_s = trio.current_time()
                while self._held and self._held[0][0] <= now_s:
                    _, start, first_seq = self._held.popleft()
                    following = start.write_held(first_seq)
                    if following is not None:
                        self._held.append((now_s + START_HELD_MS / 1000, start, following))
        finally:
            self._watched = False
