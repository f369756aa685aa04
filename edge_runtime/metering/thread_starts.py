"""The starting of threads all of whose CPU time is charged to whoever started them, as `threads` does it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Final

from edge_runtime.errors import CpuLimitExceeded
from edge_runtime.metering.meter import Meter
from edge_runtime.metering.threads import Call, calls, calls_lock, end_call, look_if_due, starting

_told = 0
"""The number of the event for which CpuLimitExceeded was raised last: nobody wants to read it of each thread."""


def start_thread(start: Callable[[Callable[[], object]], int], meter: Meter, fn: Callable[[], object]) -> int:
    """Start a thread that does `fn()` by `start`, which gives its ident, and charge all that it uses. It is stopped
    only where `fn` calls `run_stoppable`."""
    meter.shared = True  # already now: the event may end before the thread begins
    call = Call(meter, from_beginning=True)
    starting.add(call)
    try:
        ident = start(partial(_measure_thread, call, [fn]))
        with calls_lock:
            if not call.clock and not call.ended:  # so it lives: it ends under the lock
                call.enter(ident, None, 0.0)
    finally:
        starting.discard(call)
    return ident


def _measure_thread(call: Call, taken: list[Callable[[], object]]) -> None:
    ident = threading.get_ident()
    fn: Callable[[], object] | None = taken.pop()
    assert fn is not None, "it begins once"
    try:
        with calls_lock:
            starting.discard(call)
            if calls.get(ident) is not call:  # who has started it may have been stopped half-way
                call.enter(ident, None, 0.0)
            look_if_due()
        fn()
    finally:
        fn = None  # what it holds may have something to do at its end
        end_call(ident, call)


THREAD_BEGINS: Final = _measure_thread.__name__
"""Outermost function of every thread that `start_thread` has started, by which a crash in one is told."""


def run_stoppable(fn: Callable[[], object]) -> None:
    """Call `fn()` in a thread that `start_thread` has started: CpuLimitExceeded may be raised inside of it, and it is
    left out if its event has used up its time. Of the threads of an event the first is raised for that is stopped."""
    global _told
    call = calls[threading.get_ident()]
    if call.meter.cpu_s > call.meter.limit_s:
        return
    try:
        call.may_be_stopped = True
        fn()
    except CpuLimitExceeded:
        if _told != id(call.meter):
            _told = id(call.meter)
            raise
    finally:
        _stop_no_more(call)


def _stop_no_more(call: Call) -> None:
    """A stop that was meant for the call and comes late is raised in here, not in the caller."""
    while True:
        try:
            with calls_lock:
                call.may_be_stopped = False
            for _ in range(2):
                pass
            return
        except CpuLimitExceeded:
            continue
