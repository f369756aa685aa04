"""What an activation may write later, together with something else, and its longest wait: the starts of attempts, which
are written with their results, and that the script runs, which is written with its first step."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

import trio

from edge_runtime.event import EventContext
from edge_runtime.limits import START_HELD_MS

_TOGETHER_S: Final = 0.01
"""What is due so soon is written in the same pass: a wake-up takes as much as a tenth of a step."""

Write = Callable[[int], int | None]
"""Is given the number of the first entry that waits and has waited for as long as it may (0: of none); writes it, if it
waits still. Returns the first entry that is to be looked after next, None where there is none."""


class HeldStarts:
    """One task looks after all instances of a workflow."""

    def __init__(self) -> None:
        self._held: deque[tuple[float, Write, int]] = deque()
        self._watched = False

    def watch(self, write: Write, first_seq: int, event: EventContext) -> None:
        """`event`: where the task is started."""
        self._held.append((trio.current_time() + START_HELD_MS / 1000, write, first_seq))
        if not self._watched:
            self._watched = True
            event.start(self._run)

    async def _run(self) -> None:
        try:
            while self._held:
                await trio.sleep_until(self._held[0][0])
                now_s = trio.current_time()
                while self._held and self._held[0][0] <= now_s + _TOGETHER_S:
                    _, write, first_seq = self._held.popleft()
                    following = write(first_seq)
                    if following is not None:
                        self._held.append((now_s + START_HELD_MS / 1000, write, following))
        finally:
            self._watched = False
