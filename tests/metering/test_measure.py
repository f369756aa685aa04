"""What the event loop's thread is charged: the kernel's CPU time of it, whatever the thread waits for meanwhile."""

import contextvars
import threading
import time
from types import coroutine

import pytest
import trio

from edge_runtime.errors import CpuLimitExceeded
from edge_runtime.metering import loop_thread
from edge_runtime.metering.child_tasks import ChildTaskMeter
from edge_runtime.metering.loop_thread import CLOCK_READ_S, attributed_on_loop_s
from edge_runtime.metering.measure import MeteredCoroutine, measure_inline, metered_call
from edge_runtime.metering.meter import Meter, user_meter
from edge_runtime.metering.threads import measure_call

BURN_S = 0.005


def burn():
    before_s = now_s = time.thread_time()
    while now_s - before_s < BURN_S:
        now_s = time.thread_time()
    return now_s - before_s


async def as_event(meter, fn):
    outer = user_meter.set(meter)
    try:
        await metered_call(meter, fn, ())
    finally:
        user_meter.reset(outer)


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


async def test_time_between_two_steps_of_a_task_is_nobodys():
    meter, other = Meter(), Meter()
    used_s = 0.0

    async def burn_in_steps():
        nonlocal used_s
        for _ in range(3):
            used_s += burn()
            await trio.lowlevel.checkpoint()

    async def burn_beside():
        for _ in range(5):
            burn()
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(as_event, other, burn_beside)
        await as_event(meter, burn_in_steps)
    assert meter.cpu_s == pytest.approx(used_s, abs=6 * CLOCK_READ_S)
    assert loop_thread.running_event() is None


@pytest.mark.parametrize("way", ["closed", "left"])
async def test_code_that_goes_on_after_a_coroutine_that_it_steps_by_hand_has_given_up_control_is_charged(way):
    meter = Meter()
    used_s = 0.0

    async def step_by_hand():
        nonlocal used_s
        given_up = trio.lowlevel.cancel_shielded_checkpoint()  # noqa: ASYNC105
        given_up.send(None)
        used_s += burn()
        if way == "closed":
            given_up.close()
            used_s += burn()
        return given_up

    await as_event(meter, step_by_hand)
    assert meter.cpu_s == pytest.approx(used_s, abs=4 * CLOCK_READ_S)
    assert loop_thread.running_event() is None


@pytest.mark.parametrize("context", ["its own", "the event's"])
def test_trio_in_a_thread_of_the_script_does_not_end_what_is_charged(context):
    waits, seen = threading.Event(), threading.Event()

    class WhenItWaits(trio.abc.Instrument):
        def before_io_wait(self, timeout):
            if timeout:
                waits.set()
                seen.wait()

    def wait():
        trio.run(trio.sleep, 0.001, instruments=[WhenItWaits()])

    def look_meanwhile():
        given = contextvars.copy_context() if context == "the event's" else contextvars.Context()
        thread = threading.Thread(target=lambda: measure_call(meter, given.run, wait))
        thread.start()
        waits.wait()
        running = loop_thread.running_event()
        seen.set()
        thread.join()
        return running

    meter = Meter()
    in_context = contextvars.copy_context()
    in_context.run(user_meter.set, meter)
    assert in_context.run(measure_inline, meter, look_meanwhile) is meter


async def test_who_closes_a_coroutine_that_another_event_has_left_goes_on_to_be_charged():
    first, second = Meter(), Meter()
    left = []
    used_s = 0.0

    async def inner():
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def begin():
        coro = metered_call(first, inner, ())
        coro.send(None)
        left.append(coro)

    async def close():
        nonlocal used_s
        left.pop().close()
        used_s += burn()

    await as_event(first, begin)
    before_s = first.cpu_s
    await as_event(second, close)
    assert second.cpu_s == pytest.approx(used_s, abs=4 * CLOCK_READ_S)
    assert first.cpu_s == before_s


async def test_nobody_is_charged_for_the_runtime_after_a_script_has_awaited_what_trio_does_not_know():
    event, beside = Meter(), Meter()

    @coroutine
    def give_up_control():
        yield object()

    async def script():
        await give_up_control()

    async def fail():
        with pytest.raises(TypeError, match="unrecognized yield message"):
            await as_event(event, script)

    async def runtime():
        for _ in range(3):
            await trio.lowlevel.checkpoint()
            burn()

    async def other_script():
        for _ in range(5):
            await trio.lowlevel.checkpoint()

    for _ in range(10):  # tasks take turns in any order
        async with trio.open_nursery() as nursery:
            for task in (fail, runtime):
                nursery.start_soon(task)
            nursery.start_soon(as_event, beside, other_script)
        await trio.lowlevel.checkpoint()
        assert loop_thread.running_event() is None
    # Before a task that the scheduler took next has given up control itself, it is charged.
    assert event.cpu_s + beside.cpu_s <= 10 * 2 * BURN_S


@pytest.mark.parametrize("stepped_by", ["its event", "the loop"])
def test_a_coroutine_of_an_event_over_its_limit_is_stopped_where_it_goes_on_and_not_where_it_begins(stepped_by):
    meter = Meter(1.0)
    begun = []

    async def begin():
        begun.append(True)

    def take_step():
        meter.cpu_s = 2.0  # as its threads are charged
        MeteredCoroutine(begin(), meter).send(None)

    if stepped_by == "its event":
        with pytest.raises(StopIteration):
            measure_inline(meter, take_step)
        assert begun
    else:
        with pytest.raises(CpuLimitExceeded):
            take_step()
        assert not begun
    assert loop_thread.running_event() is None
