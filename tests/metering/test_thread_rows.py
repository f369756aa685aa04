"""What an event has used in all its threads, as the page of calls in threads tells it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from edge_runtime.compat.metered_threads import _start_new_thread
from edge_runtime.errors import CpuLimitExceeded
from edge_runtime.metering import threads
from edge_runtime.metering.meter import Meter
from edge_runtime.metering.thread_rows import HEAD, PAGE_BYTES, ROW, SHOWN, EventRow, read_events
from edge_runtime.metering.thread_starts import run_stoppable, start_thread
from edge_runtime.metering.threads import charge_threads, measure_call, show_threads_on

LIMIT_S = 10.0
PATIENCE_S = 60


def row(thread: int, event: int, since_s: float, used_s: float, charged_s: float = 0.0) -> list[float]:
    return [thread, event, 7, since_s, used_s, LIMIT_S, charged_s]


def page(*rows: list[float]) -> list[float]:
    return [len(rows), 0.0, *(value for each in rows for value in each)]


def test_what_all_threads_of_an_event_use_is_added_to_what_is_charged() -> None:
    shown = page(row(11, 1, 0.5, 2.0), row(12, 1, 0.1, 2.3, 1.0), row(13, 2, 0.0, 0.5))
    first, second = read_events(shown, lambda _: {11: 0.6, 12: 0.4, 13: 0.25})
    assert first == EventRow(12, 2, 7, pytest.approx(2.3 + 0.1 + 0.3), LIMIT_S, 1.0)
    assert second == EventRow(13, 1, 7, pytest.approx(0.75), LIMIT_S, 0.0)


def test_threads_that_have_ended_leave_what_was_charged() -> None:
    (found,) = read_events(page(row(11, 1, 0.5, 2.0), row(0, 9, 0.0, 9.0), row(12, 1, 0.5, 3.0)), lambda _: {12: 0.1})
    assert found.used_s == 3.0
    assert read_events(page(row(0, 1, 0.0, 1.0)), lambda _: {}) == []


@pytest.fixture
def shown() -> Iterator[memoryview[float]]:
    before = threads._page
    memory = memoryview(bytearray(PAGE_BYTES)).cast("d")
    show_threads_on(memory)
    yield memory
    show_threads_on(before)


def start(run: Callable[[], object]) -> int:
    """Without what other tests may have put around it."""
    return _start_new_thread(run, ())


def wait_until(check: Callable[[], bool]) -> None:
    ends_s = time.monotonic() + PATIENCE_S
    while not check():
        assert time.monotonic() < ends_s
        time.sleep(0.001)


def test_every_thread_of_an_event_has_a_row_as_long_as_it_lives(shown: memoryview[float]) -> None:
    meter, go_on, begun = Meter(LIMIT_S), threading.Event(), threading.Barrier(101)

    def wait() -> None:
        begun.wait()
        go_on.wait()

    for _ in range(100):
        start_thread(start, meter, wait)
    begun.wait()
    (found,) = read_events(shown[: HEAD + ROW * int(shown[SHOWN])].tolist(), lambda _: {})
    assert found.threads == 100
    go_on.set()
    wait_until(lambda: read_events(shown.tolist(), lambda _: {}) == [])
    assert meter.cpu_s > 0.0


def test_event_over_its_limit_makes_no_more_calls_in_threads() -> None:
    meter, done = Meter(LIMIT_S), list[int]()
    meter.cpu_s = LIMIT_S + 1
    with pytest.raises(CpuLimitExceeded):
        measure_call(meter, done.append, 1)

    def run() -> None:
        run_stoppable(lambda: done.append(2))
        done.append(3)

    start_thread(start, meter, run)
    wait_until(lambda: bool(done))
    assert done == [3]


def test_who_has_kept_the_loop_from_charging_does_it_in_its_place() -> None:
    outer, burnt, go_on = Meter(LIMIT_S), threading.Event(), threading.Event()

    def burn() -> None:
        sum(range(10_000))
        burnt.set()
        go_on.wait()

    thread = threading.Thread(target=measure_call, args=(outer, burn))
    thread.start()
    burnt.wait()
    with threads.calls_lock:
        charge_threads(and_stop=True)
    assert outer.cpu_s == 0.0
    other = threading.Thread(target=measure_call, args=(Meter(LIMIT_S), int))
    other.start()
    other.join()
    assert outer.cpu_s > 0.0
    go_on.set()
    thread.join()
