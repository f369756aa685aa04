"""CPU time of threads that Python does not know of, because native code made them, and the limit of what runs for no
event.

What the kernel counts for the process, and no measured thread has used, is the script's: an isolate runs one worker. A
library's pool that works for an event cannot be told from a thread that runs away, but by this: it rests when the event
has ended. So what threads without an event use between two rests may be as much as one event may use. What native ones
use while an event's code runs, on the loop or in a thread, may be as much as that event has left.

A native thread can only be stopped with its process. What was used is shown on a page for who does that.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from threading import main_thread
from time import clock_gettime, monotonic, pthread_getcpuclockid
from typing import Final

from edge_runtime.metering import loop_thread, threads
from edge_runtime.metering.meter import BACKGROUND, NATIVE, Meter

ALONE: Final = 0
"""Place on the page: seconds used since the last rest while no event's code ran, of the limit of one event."""
NATIVE_LABEL: Final = 1
"""`Meter.label` of what native threads use."""
NATIVE_UNCHARGED: Final = 2
"""How much of what they have used is not in the ledger."""
PYTHON_LABEL: Final = 3
"""The same of Python's threads that no event has started."""
PYTHON_UNCHARGED: Final = 4
PYTHON_USED: Final = 5
"""What those have used in all: what they use after it comes to ALONE."""
BY_PYTHON: Final = 6
"""How much of ALONE they have used."""
BESIDE: Final = 7
"""What an event has used, and native threads while its code ran."""
EVENT: Final = 8
"""`Meter.label` of that event."""
_PLACES: Final = 9
PAGE_BYTES: Final = 8 * _PLACES
_LEAST_S: Final = 0.001
"""Less is left to the next look: the clocks are not read all at once."""
_END_S: Final = 100e-6
"""What the end of a measured thread takes at most, after its call was measured."""
_LOOK_S: Final = 1.0
"""Between two looks for a rest."""
_REST_SHARE: Final = 0.2
"""It is one if less than that of the time was used."""
_SURE_REST_SHARE: Final = 0.01
"""The same, where threads may have waited for a processor."""

_page = memoryview(bytearray(PAGE_BYTES)).cast("d")


def show_burst_on(page: memoryview[float]) -> None:
    """Show it there from now on; its items are as those of `metering.loop_thread`."""
    global _page
    _page = page


def _charge_others(process_s: float) -> None:
    """What is left of it when the event loop's thread and all calls in threads were charged."""
    loop = main_thread().ident
    assert loop is not None, "it has begun"
    loop_s = clock_gettime(pthread_getcpuclockid(loop))
    used_s = process_s - loop_s - threads.attributed_in_threads_s() - NATIVE.cpu_s
    used_s -= _ends.charge(used_s) + threads.unseen_starts_s()
    if used_s < _LEAST_S:
        used_s = 0.0
    NATIVE.cpu_s += used_s
    _burst.add(used_s)
    _burst.show()


class _Ends:
    """What measured threads use after their calls were measured: it is theirs who started them."""

    def __init__(self) -> None:
        self._before: Counter[Meter] = Counter()

    def charge(self, most_s: float) -> float:
        """At most that much, if so much can be theirs; returns how much."""
        ended = threads.take_ends()
        if not ended and not self._before:
            return 0.0
        # Some may have been on their way out at the last look.
        since, self._before = ended + self._before, ended
        count = since.total()
        used_s = min(most_s, count * _END_S)
        if used_s <= 0.0:
            return 0.0
        for meter, times in since.items():
            threads.charge_in_thread(meter, used_s * times / count)
        return used_s


def show_charged() -> None:
    """Bring all pages up to date, after something was added to the ledger."""
    loop_thread.show_stuck_charged()
    threads.show_charged_in_threads()
    _burst.show()


class _Burst:
    """What was used for no event since the last rest."""

    def __init__(self) -> None:
        self._native_s = 0.0
        """By native threads while no event's code ran."""
        self._python_s = 0.0
        """By Python's threads that no event has started."""
        self._event: Meter | None = None
        """Whose code ran when native threads were last seen to have used something."""
        self._beside_s = 0.0
        """By native threads while it did."""
        self._python_before_s = threads.used_for_no_event_s()
        self._since_s = monotonic()
        self._used_s = 0.0
        """By all of them since then."""
        self._waited_s: float | None = None
        """What `_waiting_s` said then, if it was asked."""

    def add(self, native_s: float) -> None:
        """`native_s`: what native threads have used since the last call."""
        python_before_s, self._python_before_s = self._python_before_s, threads.used_for_no_event_s()
        python_s = self._python_before_s - python_before_s
        self._python_s += python_s
        self._used_s += native_s + python_s
        if native_s:
            self._add_native(native_s)
        now_s = monotonic()
        passed_s = now_s - self._since_s
        if passed_s >= _LOOK_S:
            if self._rested(passed_s):
                self._native_s = self._python_s = self._beside_s = 0.0
                self._event = None
            self._since_s, self._used_s = now_s, 0.0

    def _add_native(self, native_s: float) -> None:
        event = loop_thread.running_event() or threads.youngest_event()
        if event is None:
            self._native_s += native_s
        elif event is self._event:
            self._beside_s += native_s
        else:
            self._event, self._beside_s = event, native_s

    def _rested(self, passed_s: float) -> bool:
        share = self._used_s / passed_s
        if share < _SURE_REST_SHARE:
            self._waited_s = None
            return True
        waited_before_s, self._waited_s = self._waited_s, sum(_waiting_s())
        if share >= _REST_SHARE or waited_before_s is None:
            return False
        return share + (self._waited_s - waited_before_s) / passed_s < _REST_SHARE

    def show(self) -> None:
        page = _page
        page[ALONE] = self._native_s + self._python_s
        page[NATIVE_LABEL] = NATIVE.label
        page[NATIVE_UNCHARGED] = NATIVE.cpu_s - NATIVE.charged_s
        page[PYTHON_LABEL] = BACKGROUND.label
        page[PYTHON_UNCHARGED] = BACKGROUND.cpu_s - BACKGROUND.charged_s
        page[PYTHON_USED] = threads.used_for_no_event_s()
        page[BY_PYTHON] = self._python_s
        event = self._event
        page[BESIDE] = 0.0 if event is None else event.cpu_s + self._beside_s
        page[EVENT] = 0.0 if event is None else event.label


def _waiting_s() -> Iterator[float]:
    """How long each thread but the event loop's has been ready to run and waited for a processor."""
    own = str(os.getpid())
    for thread in Path("/proc/self/task").iterdir():
        if thread.name != own:
            try:
                yield int((thread / "schedstat").read_bytes().split()[1]) / 1e9
            except (OSError, IndexError):
                continue  # it has ended, or the kernel does not tell


_burst: Final = _Burst()
_ends: Final = _Ends()


def _show_nowhere() -> None:
    show_burst_on(memoryview(bytearray(PAGE_BYTES)).cast("d"))


os.register_at_fork(after_in_child=_show_nowhere)
threads.charge_after_threads(_charge_others)
