"""What the event loop's thread is charged: the kernel's CPU time of it, whatever the thread waits for meanwhile."""

import time

import pytest

from edge_runtime.metering import loop_thread
from edge_runtime.metering.child_tasks import ChildTaskMeter
from edge_runtime.metering.loop_thread import CLOCK_READ_S, attributed_on_loop_s
from edge_runtime.metering.measure import measure_inline
from edge_runtime.metering.meter import Meter

BURN_S = 0.005


def burn():
    before_s = now_s = time.thread_time()
    while now_s - before_s < BURN_S:
        now_s = time.thread_time()
    return now_s - before_s


def median(values):
    return sorted(values)[len(values) // 2]


def test_cpu_time_is_charged_and_waits_are_not_however_short():
    def wait_and_burn():
        for _ in range(10):
            time.sleep(0.0001)
        return burn()

    errors_s = []
    for _ in range(9):
        meter, before_s = Meter(), time.thread_time()
        measure_inline(meter, wait_and_burn)
        errors_s.append(abs(time.thread_time() - before_s - meter.cpu_s))
    assert median(errors_s) <= CLOCK_READ_S


def test_what_short_waits_add_is_taken_back():
    meter = Meter()
    used_s = 0
    for _ in range(100):
        before_s = time.thread_time()
        measure_inline(meter, time.sleep, 0.00005)
        used_s += time.thread_time() - before_s
    # 10 ms were waited.
    assert 0 <= meter.cpu_s <= used_s + 10 * CLOCK_READ_S


def test_inner_meter_is_charged_instead_of_the_outer_one_and_nothing_is_charged_twice():
    outer, inner = Meter(), Meter()
    attributed_s, before_s = attributed_on_loop_s(), time.thread_time()

    def both():
        burn()
        measure_inline(inner, burn)

    measure_inline(outer, both)
    used_s = time.thread_time() - before_s
    assert inner.cpu_s >= BURN_S - CLOCK_READ_S
    assert outer.cpu_s >= BURN_S - 2 * CLOCK_READ_S
    assert outer.cpu_s + inner.cpu_s == pytest.approx(attributed_on_loop_s() - attributed_s)
    assert outer.cpu_s + inner.cpu_s <= used_s + CLOCK_READ_S


def test_short_waits_of_the_loop_between_short_stretches_do_not_count(monkeypatch):
    wall_s = cpu_s = 1000.0

    def compute(for_s):
        nonlocal wall_s, cpu_s
        wall_s += for_s
        cpu_s += for_s

    monkeypatch.setattr(loop_thread, "monotonic", lambda: wall_s)
    monkeypatch.setattr(loop_thread, "thread_time", lambda: cpu_s)
    loop_thread.forget_clock()
    meter = Meter()
    for _ in range(100):
        measure_inline(meter, compute, 0.4 * CLOCK_READ_S)
        ChildTaskMeter().before_io_wait(1.0)
        wall_s += 0.5 * CLOCK_READ_S
        ChildTaskMeter().after_io_wait(1.0)
    monkeypatch.undo()
    loop_thread.forget_clock()
    assert meter.cpu_s == pytest.approx(100 * 0.4 * CLOCK_READ_S)
