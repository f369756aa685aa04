"""What one event used, and whose code a context runs."""

from __future__ import annotations

import contextvars
from collections import defaultdict
from time import monotonic_ns
from typing import Final

NO_LIMIT_NS: Final = 2**62


class Meter:
    """What one event used. Times are nanoseconds here and microseconds wherever they leave this package."""

    __slots__ = (
        "charged_ns",
        "cpu_ns",
        "label",
        "limit_ns",
        "quantities",
        "shared",
        "started_ns",
        "stop_ns",
        "subrequests",
    )

    def __init__(self, limit_ns: int = NO_LIMIT_NS, label: int = 0) -> None:
        self.cpu_ns = 0
        self.charged_ns = 0
        """How much of it is in the ledger."""
        self.limit_ns = limit_ns
        self.stop_ns = limit_ns
        """Where the next soft stop is due: the limit at first, and a little more after each."""
        self.label = label
        """Whose it is, for those who read the page."""
        self.shared = False
        """Tasks or threads of the script may be charged to it beyond the event's end."""
        self.started_ns = monotonic_ns()
        self.subrequests = 0
        self.quantities: defaultdict[str, int] = defaultdict(int)
        """By the names of `metering.quantities`; subrequests are counted apart, because they are limited."""

    @property
    def cpu_us(self) -> int:
        return self.cpu_ns // 1000

    def wall_ms(self) -> float:
        return (monotonic_ns() - self.started_ns) / 1e6


user_meter: contextvars.ContextVar[Meter | None] = contextvars.ContextVar("user_meter", default=None)
"""The meter that user code running in this context is charged to; None in the runtime's own tasks."""

BACKGROUND: Final = Meter()
"""What a script does outside of all events: threads from its import, processes nobody waits for."""
BACKGROUND_NAME: Final = ("background", "threads and processes")
"""Kind and name of it in the ledger."""
OVERHEAD: Final = Meter()
"""What the runtime's own threads use, the event loop's left out."""
