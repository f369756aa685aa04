"""What one event used, and whose code a context runs."""

from __future__ import annotations

import contextvars
from collections import defaultdict
from time import monotonic
from typing import Final

from edge_runtime.metering.quantities import SUBREQUESTS

NO_LIMIT_S: Final = 2.0**50
_COUNTED_S: Final = 1e-12
"""Shown of an event that was charged before it has used anything: whoever looks knows by it that it was counted."""


class Meter:
    """What one event used."""

    __slots__ = (
        "charged_s",
        "charged_until_s",
        "cpu_s",
        "label",
        "limit_s",
        "quantities",
        "shared",
        "shown_s",
        "started_s",
        "stop_s",
        "subrequests",
    )

    def __init__(self, limit_s: float = NO_LIMIT_S, label: float = 0.0) -> None:
        self.cpu_s = 0.0
        self.charged_s = 0.0
        """How much of it was charged to the ledger."""
        self.shown_s = 0.0
        """The same for those who read the page: negative if it was charged as that of an event that has failed."""
        self.limit_s = limit_s
        self.stop_s = limit_s
        """Where the next soft stop is due: the limit at first, and a little more after each."""
        self.label = label
        """Whose it is, for those who read the page: a whole number."""
        self.shared = False
        """Tasks or threads of the script may be charged to it beyond the event's end."""
        self.started_s = self.charged_until_s = monotonic()
        """On the wall's clock: since when it counts, and how much of that was charged."""
        self.subrequests = 0
        """All of them, since they are limited."""
        self.quantities: defaultdict[str, int] = defaultdict(int)
        """By the names of `metering.quantities`; what was charged is taken out."""

    def was_charged(self, up_to_s: float, *, failed: bool) -> None:
        """So much of it is in the ledger, as what an event used that has `failed` or not."""
        self.charged_s = up_to_s
        shown_s = up_to_s or _COUNTED_S
        self.shown_s = -shown_s if failed else shown_s

    @property
    def cpu_us(self) -> int:
        return int(self.cpu_s * 1e6)

    def count_subrequest(self) -> None:
        self.subrequests += 1
        self.quantities[SUBREQUESTS] += 1

    def wall_ms(self) -> float:
        return (monotonic() - self.started_s) * 1000


user_meter: contextvars.ContextVar[Meter | None] = contextvars.ContextVar("user_meter", default=None)
"""The meter that user code running in this context is charged to; None in the runtime's own tasks."""

BACKGROUND: Final = Meter()
"""What a script does outside of all events: threads from its import, processes nobody waits for."""
BACKGROUND_NAME: Final = ("background", "threads and processes")
"""Kind and name of it in the ledger."""
NATIVE: Final = Meter()
"""What threads use that native code has made, see `metering.native`."""
NATIVE_NAME: Final = ("background", "native threads")
OVERHEAD: Final = Meter()
"""What the runtime's own threads use, the event loop's left out."""
