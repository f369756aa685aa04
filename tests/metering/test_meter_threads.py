"""CPU time of worker threads: charged once, to the innermost meter."""

import threading
import time

import pytest
import trio

from edge_runtime.compat.install import install_modules
from edge_runtime.metering.meter import Meter, user_meter
from edge_runtime.metering.threads import measure_call

BURN_S = 0.02


def burn():
    ends = time.thread_time() + BURN_S
    while time.thread_time() < ends:
        pass
    return threading.current_thread()


def test_nested_calls_are_charged_to_the_inner_meter_only():
    outer, inner = Meter(), Meter()
    measure_call(outer, measure_call, inner, burn)
    assert inner.cpu_s >= BURN_S
    assert outer.cpu_s < BURN_S


def test_nested_calls_of_one_meter_are_charged_once():
    meter = Meter()
    before = time.thread_time()
    measure_call(meter, measure_call, meter, burn)
    assert BURN_S <= meter.cpu_s <= time.thread_time() - before


async def test_trio_threads_of_an_event_are_charged_to_it():
    install_modules()
    meter = Meter()
    token = user_meter.set(meter)
    try:
        thread = await trio.to_thread.run_sync(burn)
    finally:
        user_meter.reset(token)
    assert thread is not threading.main_thread()
    assert meter.cpu_s >= BURN_S
    charged = meter.cpu_s
    await trio.to_thread.run_sync(burn)
    assert meter.cpu_s == charged
    with pytest.raises(TypeError, match="sync function"):
        await trio.to_thread.run_sync(trio.sleep, 0)
