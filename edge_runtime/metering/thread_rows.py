"""The page of calls in threads, a row each, which others can read while they run: native code may keep the interpreter,
and with it the event loop, to itself, and threads without end may keep it from the event loop.

What an event has used in all its threads is the largest USED of its rows, and what the clock of each of their threads
shows beyond SINCE. At any instant that is no more than it has used: a row's SINCE moves on before any USED grows by it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from edge_runtime.limits import RUNTIME_THREADS_SPARE, SCRIPT_THREADS_MAX

SHOWN: Final = 0
"""Place on the page: behind this number of rows all are free."""
NO_EVENT_S: Final = 1
"""Place on the page: what calls that no event has made have used, as far as it is charged."""
HEAD: Final = 2
THREAD: Final = 0
"""Place in a row: the kernel's id of its thread; 0: the row is free."""
EVENT: Final = 1
"""A number that no other event has that is shown at the same time."""
LABEL: Final = 2
"""As on the page of `metering.loop_thread`."""
SINCE: Final = 3
"""Up to where the thread's CPU clock is charged."""
USED: Final = 4
"""What the event has used, as far as it was charged when the row was written."""
LIMIT: Final = 5
"""How much it may use."""
CHARGED: Final = 6
"""How much of it is in the ledger."""
ROW: Final = 7
ROWS: Final = SCRIPT_THREADS_MAX + RUNTIME_THREADS_SPARE
"""One for every thread that may be: calls beyond that, in threads that native code has made, are not shown."""
PAGE_BYTES: Final = 8 * (HEAD + ROW * ROWS)


@dataclass(frozen=True, slots=True)
class EventRow:
    """What one event has used."""

    thread: int
    """The kernel's id of one of the threads that run it."""
    threads: int
    """How many run it."""
    label: int
    used_s: float
    limit_s: float
    charged_s: float


def rows_of(page: Sequence[float]) -> Iterable[Sequence[float]]:
    """Those that are not free."""
    for at in range(HEAD, len(page) - ROW + 1, ROW):
        if page[at + THREAD]:
            yield page[at : at + ROW]


def read_events(page: Sequence[float], clocks_s: Callable[[Sequence[int]], Mapping[int, float]]) -> list[EventRow]:
    """`clocks_s`: gives the CPU clocks of threads, as far as there are such."""
    events: dict[float, list[Sequence[float]]] = {}
    for row in rows_of(page):
        events.setdefault(row[EVENT], []).append(row)
    now_s = clocks_s([int(row[THREAD]) for rows in events.values() for row in rows]) if events else {}
    found = []
    for rows in events.values():
        last = max(rows, key=lambda row: row[USED])
        # A thread may have ended since, and another one may have its id.
        uncharged_s = sum(max(0.0, now_s.get(int(row[THREAD]), 0.0) - row[SINCE]) for row in rows)
        used_s = last[USED] + uncharged_s
        found.append(EventRow(int(last[THREAD]), len(rows), int(last[LABEL]), used_s, last[LIMIT], last[CHARGED]))
    return found
