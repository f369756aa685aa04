"""What signals do to the event loop while it waits: the tick of the CPU guard is handled, and does not wake it; one
that a script handles does."""

import signal
import time

import pytest
import trio

from edge_runtime.compat import waking_signals
from edge_runtime.compat.waking_signals import ticks_wake_nobody, watch_handlers
from edge_runtime.isolate.events.cpu_timer import CpuTimer


class Waits(trio.abc.Instrument):
    """How often the loop has begun to wait."""

    def __init__(self):
        self.count = 0

    def before_io_wait(self, timeout):
        self.count += timeout > 0


def handler_of(module):
    def handle(number, frame):
        handled.append(number)

    handled = []
    handle.__module__ = module
    return handle, handled


@pytest.fixture
def unhandled(monkeypatch):
    """As in a process whose script handles no signal yet."""
    monkeypatch.setattr(signal, "signal", waking_signals._signal)
    monkeypatch.setattr(waking_signals, "_handled", False)
    monkeypatch.setattr(waking_signals, "_woken", -1)
    # trio handles what interrupts Python by default, but in an isolate that does not.
    before = {
        number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGALRM, signal.SIGINT, signal.SIGPROF)
    }
    watch_handlers()
    yield
    monkeypatch.undo()
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("module", "installed", "wakes"),
    [
        ("edge_runtime.guard", "before", 0),
        ("script", "before", 1),
        ("edge_runtime.guard", "after", 0),
        ("script", "after", 1),
    ],
)
def test_the_loop_is_woken_by_a_signal_that_the_script_handles_only(unhandled, module, installed, wakes):
    handle, handled = handler_of(module)
    waits = Waits()

    async def main():
        if installed == "after":
            ticks_wake_nobody()
        signal.signal(signal.SIGALRM, handle)
        if installed == "before":
            ticks_wake_nobody()
        await trio.lowlevel.checkpoint()
        before = waits.count
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        await trio.sleep(0.2)
        return waits.count - before

    assert trio.run(main, instruments=[waits]) == 1 + wakes
    assert handled == [signal.SIGALRM]


def test_ticks_are_handled_while_the_loop_waits_and_a_thread_computes(unhandled):
    handle, handled = handler_of("edge_runtime.guard")
    waits = Waits()

    def compute_until_handled():
        gives_up_s = time.thread_time() + 5
        while not handled and time.thread_time() < gives_up_s:
            pass
        return bool(handled)

    async def main():
        ticks_wake_nobody()
        signal.signal(signal.SIGPROF, handle)
        timer = CpuTimer(signal.SIGPROF)
        await trio.to_thread.run_sync(int)  # with a thread that is there, the loop waits just once
        before = waits.count
        timer.arm(0.02, 0.02)
        try:
            in_time = await trio.to_thread.run_sync(compute_until_handled)
        finally:
            timer.arm(0.0, 0.0)
        return in_time, waits.count - before

    assert trio.run(main, instruments=[waits]) == (True, 1)
