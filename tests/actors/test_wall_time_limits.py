"""How long events may take by the clock on the wall: cron handlers, and what goes on after an answer."""

from contextlib import asynccontextmanager

import pytest
import trio
from actor_fakes import WORKER, EventsWithErrors
from seam_fakes import CountingRandomness

from edge_runtime.actors.host import LocalActorHost
from edge_runtime.event import EventContext, EventKind, Outcome
from edge_runtime.isolate.handlers.schedules import cron_address, keep_schedule, register_crons
from edge_runtime.isolate.trio_flavour import TrioFlavour
from edge_runtime.limits import CRON_STARTS_MAX
from edge_runtime.store.memory_store import MemoryStore
from edge_runtime.testing.surroundings import EPOCH_MS, JumpingClock, offload_inline

HOURLY = "0 * * * *"
SHOWN = f'"{HOURLY}"'
HOUR_MS = 3_600_000
FIRST_MS = EPOCH_MS // HOUR_MS * HOUR_MS + HOUR_MS
QUARTER_S = 15 * 60


class Cron:
    def __init__(self, events, host, clock):
        self.events = events
        self.host = host
        self.clock = clock


@asynccontextmanager
async def triggered(handler, crons=(HOURLY,), store=None):
    """A host whose cron triggers call `handler`."""
    async with trio.open_nursery() as nursery:
        store, clock, events = store or MemoryStore(), JumpingClock(), EventsWithErrors(nursery)
        host = LocalActorHost(store, clock, CountingRandomness(), offload_inline, events, WORKER)
        register_crons(host, WORKER, crons, handler, "Default.scheduled")
        await keep_schedule(store, clock, WORKER, crons, host.owns)
        await nursery.start(host.run)
        host.timers_changed()
        yield Cron(events, host, clock)
        nursery.cancel_scope.cancel()


def seconds_until(at_ms):
    return (at_ms - EPOCH_MS) / 1000 - trio.current_time()


async def test_cron_handler_is_cancelled_after_a_quarter_of_an_hour_and_fires_again(autojump_clock):
    began, ended = [], []

    async def handler(controller):
        began.append(controller.scheduledTime)
        try:
            await trio.sleep_forever()
        finally:
            ended.append(trio.current_time())

    async with triggered(handler) as cron:
        await trio.sleep(seconds_until(FIRST_MS) + QUARTER_S + 1)
        assert (began, len(ended)) == ([FIRST_MS], 1)
        assert ended[0] == pytest.approx(seconds_until(FIRST_MS) + trio.current_time() + QUARTER_S, abs=0.5)
        assert cron.events.ended == [(EventKind.SCHEDULED, "Default.scheduled", Outcome.EXCEEDED_WALL_TIME, SHOWN)]
        assert cron.events.errors == ["the scheduled handler ran longer than 900000 ms and was cancelled\n"]
        await trio.sleep(seconds_until(FIRST_MS + HOUR_MS) + 1)
        assert began == [FIRST_MS, FIRST_MS + HOUR_MS]


async def test_cron_handler_that_ends_in_time_is_left_alone_however_the_clock_is_set(autojump_clock):
    async def handler(controller):
        cron.clock.shift_ms += 20 * HOUR_MS
        await trio.sleep(QUARTER_S - 1)

    async with triggered(handler) as cron:
        await trio.sleep(seconds_until(FIRST_MS) + QUARTER_S)
        assert cron.events.ended[0] == (EventKind.SCHEDULED, "Default.scheduled", Outcome.OK, SHOWN)


async def test_cron_handler_whose_process_ends_each_time_is_begun_four_times_and_then_at_its_next_time(autojump_clock):
    store, began = MemoryStore(), []

    async def handler(controller):
        began.append(controller.scheduledTime)
        await trio.sleep_forever()

    for _ in range(CRON_STARTS_MAX + 2):
        before = len(began)
        async with triggered(handler, store=store):
            with trio.move_on_after(2 * HOUR_MS / 1000):
                while len(began) == before:
                    await trio.sleep(1)
    assert began == [FIRST_MS] * CRON_STARTS_MAX + [began[-1]] * 2
    assert began[-1] > FIRST_MS


async def test_cron_handler_that_is_cut_short_by_an_orderly_stop_begins_again_each_time(autojump_clock):
    store, began = MemoryStore(), []

    async def handler(controller):
        began.append(controller.scheduledTime)
        await trio.sleep_forever()

    for number in range(CRON_STARTS_MAX + 2):
        async with triggered(handler, store=store) as cron:
            while len(began) == number:
                await trio.sleep(1)
            await cron.host.release()
    assert began == [FIRST_MS] * (CRON_STARTS_MAX + 2)


async def test_cron_handler_run_by_hand_is_limited_alike(autojump_clock):
    async def handler(controller):
        await trio.sleep_forever()

    async with triggered(handler) as cron:
        cron.host.deliver(cron_address(WORKER, HOURLY), 5)
        await trio.sleep(QUARTER_S + 1)
        assert cron.events.ended == [(EventKind.SCHEDULED, "Default.scheduled", Outcome.EXCEEDED_WALL_TIME, SHOWN)]


async def test_what_waits_after_an_answer_is_cancelled_after_half_a_minute_and_no_sooner(autojump_clock):
    left_at = {}

    async def wait(name, for_s):
        try:
            await trio.sleep(for_s)
        finally:
            left_at[name] = trio.current_time()

    async with trio.open_nursery() as nursery:
        event = EventContext(EventKind.FETCH, "Default.fetch", nursery, TrioFlavour())
        event.wait_until(wait("long", 3600))
        event.wait_until(wait("short", 29))
        await trio.sleep(10)  # before it has answered
        await event.finish()
    assert left_at == {"short": pytest.approx(29), "long": pytest.approx(40)}
