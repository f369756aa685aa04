"""The log lines of events, on their way to the supervisor: in bulk, off the path of the request."""

from __future__ import annotations

import trio

from edge_runtime.limits import ERROR_DETAIL_MAX
from edge_runtime.log_lines import Log, LogLine
from edge_runtime.seams import Clock
from edge_runtime.wire import Channel

_HELD_MAX = 10_000
_PER_FRAME = 50
"""With the longest errors, and all characters of four bytes, still within FRAME_MAX."""


class LogLines:
    """When the supervisor does not take them, at most `_HELD_MAX` are held and later ones are dropped and counted."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lines: list[LogLine] = []
        self._dropped = 0
        self._wanted = trio.Event()

    def add(self, kind: str, name: str, detail: str, outcome: str, cpu_us: int, wall_ms: float, error: str) -> None:
        """`cpu_us` and `wall_ms`: of the whole event. `error`: what its script is to be told, if it failed."""
        if len(self._lines) >= _HELD_MAX:
            self._dropped += 1
            return
        if error:
            error = error[-ERROR_DETAIL_MAX:]
        lines = self._lines
        if not lines:
            self._wanted.set()
        lines.append(LogLine(self._clock.now_ms(), kind, name, detail, outcome, cpu_us, wall_ms, error))

    async def ship(self, channel: Channel) -> None:
        """Send log lines to the supervisor, a tenth of a second after the first that waits; runs until cancelled."""
        while True:
            await self._wanted.wait()
            await trio.sleep(0.1)
            await self.flush(channel)

    async def flush(self, channel: Channel) -> None:
        self._wanted = trio.Event()
        while self._lines:
            lines, self._lines = self._lines[:_PER_FRAME], self._lines[_PER_FRAME:]
            await channel.send(Log.of(lines))
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            note = f"{dropped} log lines were dropped because they were not taken in time"
            await channel.send(Log.of([LogLine(self._clock.now_ms(), "log", "", note, "ok", 0, 0.0, "")]))
