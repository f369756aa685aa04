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
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, process_time, thread_time
from typing import Final

from edge_runtime.metering import measure, threads
from edge_runtime.metering.meter import BACKGROUND, NATIVE, Meter

BURST: Final = 0
"""Place on the page: seconds that were used since the last rest, of the limit of one event."""
LABEL: Final = 1
"""`Meter.label` of what used them."""
UNCHARGED: Final = 2
"""How much of what that has used is not in the ledger."""
EVENT: Final = 3
"""`Meter.label` of the event whose code ran meanwhile, 0 if none did."""
_PLACES: Final = 4
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
    """Show it there from now on; its items are as those of `metering.measure`."""
    global _page
    _page = page


def charge_native(*, and_stop: bool = False) -> None:
    """Charge calls in threads, as `threads.charge_threads` does, and native threads.

    For the event loop's thread, and its signal handlers.
    """
    process_s = process_time()
    if not threads.charge_threads(and_stop=and_stop):
        return  # without it nothing can be said of the others
    known_s = thread_time() + threads.attributed_in_threads_s() + threads.ended_count() * _END_S
    used_s = process_s - known_s - NATIVE.cpu_s
    if used_s < _LEAST_S:
        used_s = 0.0
    NATIVE.cpu_s += used_s
    _burst.add(used_s)
    _burst.show()


def show_charged() -> None:
    """Bring all pages up to date, after something was added to the ledger."""
    measure.show_stuck_charged()
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
        self._python_before_s = 0.0
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
        found = measure.running()
        event = threads.youngest_event() if found is None else found[0]
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
        alone_s = self._native_s + self._python_s
        meter = NATIVE if self._native_s >= self._python_s else BACKGROUND
        event_label = 0
        if self._event is not None and self._event.cpu_s + self._beside_s > alone_s:
            alone_s = self._event.cpu_s + self._beside_s
            meter, event_label = NATIVE, self._event.label
        _page[LABEL] = meter.label
        _page[UNCHARGED] = meter.cpu_s - meter.charged_s
        _page[EVENT] = event_label
        _page[BURST] = alone_s


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


def _show_nowhere() -> None:
    show_burst_on(memoryview(bytearray(PAGE_BYTES)).cast("d"))


os.register_at_fork(after_in_child=_show_nowhere)
