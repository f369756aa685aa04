"""What the event loop's thread is charged: the kernel's CPU time of it, whatever the thread waits for meanwhile."""

import time

from edge_runtime.metering.measure import CLOCK_READ_NS, attributed_on_loop_ns, measure_inline
from edge_runtime.metering.meter import Meter

BURN_NS = 5_000_000


def burn(ns=BURN_NS):
    before_ns = now_ns = time.thread_time_ns()
    while now_ns - before_ns < ns:
        now_ns = time.thread_time_ns()
    return now_ns - before_ns


def median(values):
    return sorted(values)[len(values) // 2]


def test_cpu_time_is_charged_and_waits_are_not_however_short():
    def wait_and_burn():
        for _ in range(10):
            time.sleep(0.0001)
        return burn()

    errors_ns = []
    for _ in range(9):
        meter, before_ns = Meter(), time.thread_time_ns()
        measure_inline(meter, wait_and_burn)
        errors_ns.append(abs(time.thread_time_ns() - before_ns - meter.cpu_ns))
    assert median(errors_ns) <= CLOCK_READ_NS


def test_what_short_waits_add_is_taken_back():
    meter = Meter()
    used_ns = 0
    for _ in range(100):
        before_ns = time.thread_time_ns()
        measure_inline(meter, time.sleep, 0.00005)
        used_ns += time.thread_time_ns() - before_ns
    # 10 ms were waited.
    assert 0 <= meter.cpu_ns <= used_ns + 10 * CLOCK_READ_NS


def test_inner_meter_is_charged_instead_of_the_outer_one_and_nothing_is_charged_twice():
    outer, inner = Meter(), Meter()
    attributed_ns, before_ns = attributed_on_loop_ns(), time.thread_time_ns()

    def both():
        burn()
        measure_inline(inner, burn)

    measure_inline(outer, both)
    used_ns = time.thread_time_ns() - before_ns
    assert inner.cpu_ns >= BURN_NS - CLOCK_READ_NS
    assert outer.cpu_ns >= BURN_NS - 2 * CLOCK_READ_NS
    assert outer.cpu_ns + inner.cpu_ns == attributed_on_loop_ns() - attributed_ns
    assert outer.cpu_ns + inner.cpu_ns <= used_ns + CLOCK_READ_NS
