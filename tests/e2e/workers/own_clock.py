"""CPU time as a script can measure it: by the clocks of the threads that it runs on, reported by place.

What runs around a loop is measured as the loop is: what is charged beyond that is the meter's error.
"""

import asyncio
import functools
import threading
import time
import types
from contextlib import contextmanager

from workers import env

BURN_NS = env.BURN_NS
loops = False
known_ns = {}
times = {}
reports = threading.Lock()


def report(place, used_ns):
    with reports:
        known_ns[place] = known_ns.get(place, 0) + used_ns


class Stretches(threading.local):
    """Of each thread: what is measured right now, outermost first, each with up to where it is reported."""

    def __init__(self):
        self.open = []


stretches = Stretches()


@contextmanager
def measured(place):
    """Report the thread's CPU time of this stretch, without that of stretches within it."""
    opened, since_ns = stretches.open, time.thread_time_ns()
    if opened:
        outer = opened[-1]
        report(outer[0], since_ns - outer[1])
    mine = [place, since_ns]
    opened.append(mine)
    try:
        yield
    finally:
        opened.pop()
        now_ns = time.thread_time_ns()
        report(place, now_ns - mine[1])
        if opened:
            opened[-1][1] = now_ns


@types.coroutine
def stepped(place, coro):
    """Await a coroutine, each of its steps measured."""
    step, argument = coro.send, None
    while True:
        try:
            with measured(place):
                yielded = step(argument)
        except StopIteration as stop:
            return stop.value
        try:
            step, argument = coro.send, (yield yielded)
        except BaseException as error:
            step, argument = coro.throw, error


def known(place):
    """Measure all that a function does, sync or async, and count how often it has ended."""

    def decorate(fn):
        @functools.wraps(fn)
        async def call(*args):
            try:
                return await stepped(place, fn(*args))
            finally:
                ended(place)

        @functools.wraps(fn)
        def call_sync(*args):
            try:
                with measured(place):
                    return fn(*args)
            finally:
                ended(place)

        return call if asyncio.iscoroutinefunction(fn) else call_sync

    return decorate


def ended(place):
    with reports:
        times[place] = times.get(place, 0) + 1


def burn(place, parts=1):
    """Use the CPU for one of `parts` parts of BURN_NS, once the loop is wanted."""
    with measured(place):
        ends_ns = time.thread_time_ns() + BURN_NS // parts
        while loops and time.thread_time_ns() < ends_ns:
            pass
