"""A clock that stands at one moment."""

from __future__ import annotations

from datetime import UTC, datetime


class FixedClock:
    """At a time of ISO 8601, in UTC."""

    def __init__(self, at: str) -> None:
        self._ms = int(datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp() * 1000)

    def now_ms(self) -> int:
        return self._ms
