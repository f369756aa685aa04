"""JavaScript's Date, as far as scripts use it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from edge_runtime.workers.js_object import JsObject


class JsDate(JsObject):
    """A moment in whole milliseconds since the epoch."""

    __slots__ = ("_ms",)
    js_name = "Date"

    def __init__(self, moment: object = None) -> None:
        """`moment` is milliseconds, an ISO 8601 text, a datetime or another Date; None: now."""
        if moment is None:
            self._ms = self.now()
        elif isinstance(moment, JsDate):
            self._ms = moment._ms
        elif isinstance(moment, (int, float)):
            self._ms = int(moment)
        else:
            parsed = moment if isinstance(moment, datetime) else datetime.fromisoformat(str(moment))
            self._ms = round(parsed.timestamp() * 1000)

    @staticmethod
    def now() -> int:
        return time.time_ns() // 1_000_000

    def getTime(self) -> int:
        return self._ms

    valueOf = getTime

    def toISOString(self) -> str:
        return self.to_py().isoformat(timespec="milliseconds").replace("+00:00", "Z")

    toJSON = toISOString

    def to_py(self, **_options: Any) -> datetime:
        return datetime.fromtimestamp(self._ms / 1000, UTC)

    def _to_wire(self) -> datetime:
        return whole_milliseconds(self.to_py())

    def _from_wire(self) -> datetime:
        return self.to_py().replace(tzinfo=None)

    def __eq__(self, other: object) -> bool:
        return self._ms == other._ms if isinstance(other, JsDate) else NotImplemented

    def __lt__(self, other: JsDate) -> bool:
        return self._ms < other._ms

    def __sub__(self, other: JsDate) -> int:
        return self._ms - other._ms

    def __hash__(self) -> int:
        return hash(self._ms)

    def __repr__(self) -> str:
        return f"<Date {self.toISOString()}>"


def whole_milliseconds(moment: datetime) -> datetime:
    """The moment as a Date holds it, in UTC; a naive one is local time."""
    utc = moment.astimezone(UTC)
    return utc.replace(microsecond=utc.microsecond // 1000 * 1000)
