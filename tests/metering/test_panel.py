"""What the supervisor sees of an isolate's running code, and how much of what that used nobody has charged yet."""

from __future__ import annotations

import faulthandler
import signal
import struct
import threading
import time
from collections.abc import Iterator

import pytest

from edge_runtime.metering import loop_thread, native, threads
from edge_runtime.metering.loop_thread import PAGE_BYTES, show_part_charged, show_running_on, stop_of
from edge_runtime.metering.measure import measure_inline
from edge_runtime.metering.meter import Meter
from edge_runtime.metering.native import show_burst_on, show_charged
from edge_runtime.metering.panel import Panel
from edge_runtime.metering.panel_reader import PanelReader, Running
from edge_runtime.metering.threads import measure_call, show_threads_on

LIMIT_S = 10.0


@pytest.fixture
def panel() -> Iterator[Panel]:
    before = loop_thread.loop_thread.page, threads._page, native._page
    panel = Panel()
    panel.show()
    yield panel
    faulthandler.unregister(signal.SIGURG)
    show_running_on(before[0])
    show_threads_on(before[1])
    show_burst_on(before[2])


@pytest.fixture
def reader(panel: Panel) -> Iterator[PanelReader]:
    reader = PanelReader(*panel.descriptors)
    yield reader
    reader.close()


def look(reader: PanelReader) -> list[Running]:
    own = time.thread_time()
    return reader.look(own, lambda threads: dict.fromkeys(threads, own), LIMIT_S).events


def look_for_burst(reader: PanelReader, limit_s: float) -> Running:
    burst = reader.look(0.0, lambda _: {}, limit_s).burst
    assert burst is not None
    return burst


def test_what_runs_is_seen_with_its_label_and_what_it_has_used(panel: Panel, reader: PanelReader) -> None:
    label = panel.label("worker", "fetch", "Default.fetch") + 7
    meter = Meter(LIMIT_S, label)
    meter.cpu_s = 3.0
    (running,) = measure_inline(meter, look, reader)
    assert reader.label(running.label) == ("worker", "fetch", "Default.fetch")
    assert running.connection == 7
    assert running.uncharged_s == pytest.approx(3.0, abs=0.1)
    assert running.over_s == pytest.approx(-7.0, abs=0.1)
    assert not running.charged_s
    assert look(reader) == []


def test_what_was_charged_of_a_running_event_is_told_apart(panel: Panel, reader: PanelReader) -> None:
    label = panel.label("workflow", "workflow", "flow")
    charged, fresh = Meter(LIMIT_S, label), Meter(LIMIT_S, label)
    charged.cpu_s = 3.0
    charged.was_charged(2.0, failed=False)

    def nested() -> None:
        (inner,) = measure_inline(fresh, look, reader)
        assert (inner.charged_s, reader.label(inner.label)) == (0.0, ("workflow", "workflow", "flow"))
        (outer,) = look(reader)
        assert outer.uncharged_s == pytest.approx(1.0, abs=0.1)

    measure_inline(charged, nested)
    (running,) = measure_inline(charged, look, reader)
    assert reader.label(running.label) == ("workflow", "workflow", "flow")
    assert running.uncharged_s == pytest.approx(1.0, abs=0.1)
    assert running.over_s == pytest.approx(-7.0, abs=0.1)


def test_what_is_charged_while_its_code_runs_is_seen_at_once(panel: Panel, reader: PanelReader) -> None:
    meter = Meter(LIMIT_S, panel.label("workflow", "workflow", "flow"))
    meter.cpu_s = 3.0

    def charge() -> Running:
        meter.was_charged(meter.cpu_s, failed=False)
        show_part_charged(Meter())
        assert not look(reader)[0].charged_s
        show_part_charged(meter)
        return look(reader)[0]

    running = measure_inline(meter, charge)
    assert running.charged_s == 3.0
    assert reader.label(running.label) == ("workflow", "workflow", "flow")
    assert running.uncharged_s == pytest.approx(0.0, abs=0.1)


def test_an_event_that_was_counted_as_failed_is_told_apart(panel: Panel, reader: PanelReader) -> None:
    meter = Meter(LIMIT_S, panel.label("worker", "fetch", "Default.fetch"))
    meter.cpu_s = 3.0
    meter.was_charged(2.0, failed=True)
    for running in (*measure_inline(meter, look, reader), *measure_call(meter, look, reader)):
        assert (running.charged_s, running.failed) == (2.0, True)
        assert running.uncharged_s == pytest.approx(1.0, abs=0.1)


def test_an_event_that_swallows_its_stops_stays_seen(panel: Panel, reader: PanelReader) -> None:
    meter = Meter(LIMIT_S, panel.label("worker", "fetch", "Default.fetch"))
    meter.cpu_s = 11.0
    meter.was_charged(4.0, failed=False)
    stop_of(meter, 10.9)
    assert look(reader) == []
    stop_of(meter, 11.0)
    (running,) = look(reader)
    assert running.stuck
    assert (running.uncharged_s, running.charged_s, running.over_s) == (7.0, 4.0, 1.0)
    meter.was_charged(9.0, failed=False)
    show_charged()
    (running,) = look(reader)
    assert running.uncharged_s == 2.0


def test_an_event_that_swallows_its_stops_in_threads_is_not_taken_for_what_it_does_on_the_loop(
    panel: Panel, reader: PanelReader
) -> None:
    meter = Meter(LIMIT_S, panel.label("worker", "fetch", "Default.fetch"))

    def use_in_threads() -> list[Running]:
        meter.cpu_s = 11.0
        stop_of(meter, 10.9)
        stop_of(meter, 11.0)
        return look(reader)

    (running,) = measure_inline(meter, use_in_threads)
    assert running.stuck
    assert (running.uncharged_s, running.over_s) == (11.0, 1.0)


def test_calls_in_threads_are_seen_by_thread(panel: Panel, reader: PanelReader) -> None:
    meter = Meter(LIMIT_S, panel.label("worker", "fetch", "Default.fetch"))
    meter.cpu_s = 5.0
    meter.was_charged(2.0, failed=False)
    (running,) = measure_call(meter, look, reader)
    assert running.thread == threading.get_native_id()
    assert running.uncharged_s == pytest.approx(3.0, abs=0.1)
    assert look(reader) == []


def test_all_that_native_threads_used_is_uncharged_though_part_of_it_was_used_beside_an_event(
    panel: Panel, reader: PanelReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "NATIVE", Meter(label=panel.label("worker", "background", "native threads")))
    native.NATIVE.cpu_s = 0.25
    burst = native._Burst()
    burst.add(0.15)
    measure_inline(Meter(LIMIT_S, panel.label("worker", "fetch", "Default.fetch")), burst.add, 0.1)
    burst.show()
    found = look_for_burst(reader, 0.15)
    assert reader.label(found.label) == ("worker", "background", "native threads")
    assert (found.over_s, found.uncharged_s) == (pytest.approx(0.0), pytest.approx(0.25))
    native.NATIVE.charged_s = 0.2
    burst.show()
    assert look_for_burst(reader, 0.15).uncharged_s == pytest.approx(0.05)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf"), -1.0, 2.0**52, 1e300])
def test_numbers_that_make_no_sense_harm_nobody(panel: Panel, reader: PanelReader, number: float) -> None:
    page = panel._memory
    page[:PAGE_BYTES] = struct.pack("=d", number) * (PAGE_BYTES // 8)
    for running in look(reader):
        reader.label(running.label)
