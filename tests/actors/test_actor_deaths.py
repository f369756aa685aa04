"""Actors whose code has ended their process: left alone for a while, their alarms counted as failed."""

from __future__ import annotations

import pytest
from actor_fakes import FakeBody, address, running_host

from edge_runtime.actors.api import ActorKind
from edge_runtime.actors.timers import read_record, schedule
from edge_runtime.control import ActorDeath
from edge_runtime.errors import ActorBroken
from edge_runtime.event import EventKind
from edge_runtime.limits import ALARM_RETRIES_MAX, ALARM_RETRY_FIRST_MS
from edge_runtime.metering.panel import actor_number
from edge_runtime.store.api import Batch
from edge_runtime.store.memory_store import MemoryStore
from edge_runtime.testing.surroundings import EPOCH_MS, JumpingClock

OBJECT = address("a")


def death(
    who=OBJECT, *, kind=EventKind.RPC, name="Fake.increment", delay_ms=0, alone=True, certain=True, at_ms=EPOCH_MS
):
    return ActorDeath(actor_number(who), kind, name, at_ms, at_ms + delay_ms, alone, certain, "it exited with code 7")


def store_with_alarm(due_ms):
    store = MemoryStore()
    batch = Batch()
    with store.snapshot() as snapshot:
        schedule(batch, snapshot, OBJECT, due_ms, name="named")
    store.commit(batch)
    return store


def record_of(store):
    with store.snapshot() as snapshot:
        return read_record(snapshot, OBJECT)


async def test_object_is_refused_until_it_may_be_started_again_and_others_are_not(autojump_clock):
    log = []
    async with running_host(MemoryStore(), lambda context: FakeBody(context, log)) as host:
        host.learn_deaths([death(delay_ms=4000, at_ms=JumpingClock().now_ms())])
        with pytest.raises(ActorBroken, match=r"Fake\.increment\(\) ran: it exited with code 7\.") as refused:
            await host.deliver(OBJECT, "early")
        assert str(refused.value).endswith("the object is not started again for another 4.0 s.")
        assert refused.value.retryable
        assert await host.deliver(address("b"), "other") == "other"
        assert await host.deliver(address("a", kind=ActorKind.WORKFLOW), "instance") == "instance"
        await JumpingClock().sleep_until_ms(death(delay_ms=4000, at_ms=JumpingClock().now_ms()).until_ms)
        assert await host.deliver(OBJECT, "late") == "late"


async def test_object_is_not_refused_for_what_may_have_had_another_cause(autojump_clock):
    async with running_host(MemoryStore(), lambda context: FakeBody(context, [])) as host:
        host.learn_deaths([death(delay_ms=4000, at_ms=JumpingClock().now_ms(), certain=False)])
        assert await host.deliver(OBJECT, "soon") == "soon"


@pytest.mark.parametrize(
    ("found", "fires_after_ms"),
    [
        (death(kind=EventKind.ALARM, name="Fake.alarm"), ALARM_RETRY_FIRST_MS),
        (death(name="Fake.constructor"), ALARM_RETRY_FIRST_MS),
        (death(kind=EventKind.ALARM, name="Fake.alarm", certain=False, delay_ms=1), ALARM_RETRY_FIRST_MS),
        (death(kind=EventKind.ALARM, name="Fake.alarm", certain=False), 0),
        (death(kind=EventKind.ALARM, name="Fake.alarm", certain=False, alone=False, delay_ms=1), 0),
        (death(name="Fake.increment"), 0),
        (death(kind=EventKind.ALARM, name="Fake.alarm", at_ms=EPOCH_MS - 2000), 0),
        (death(address("b"), kind=EventKind.ALARM, name="Fake.alarm"), 0),
    ],
)
async def test_alarm_that_ended_its_process_is_tried_again_later(found, fires_after_ms, autojump_clock):
    store, log = store_with_alarm(EPOCH_MS - 1000), []
    clock = JumpingClock()
    before_ms = clock.now_ms()
    async with running_host(store, lambda context: FakeBody(context, log), deaths=[found]):
        await clock.sleep_until_ms(EPOCH_MS + 60_000)
    (fired_ms,) = [entry[1] for entry in log if isinstance(entry, tuple)]
    assert before_ms + fires_after_ms <= fired_ms < before_ms + fires_after_ms + ALARM_RETRY_FIRST_MS
    assert record_of(store).name == "named"


async def test_alarm_that_ends_its_process_every_time_is_dropped_after_its_retries(autojump_clock):
    store, log, clock = store_with_alarm(EPOCH_MS - 1000), [], JumpingClock()
    for retries in range(ALARM_RETRIES_MAX):
        found = death(kind=EventKind.ALARM, name="Fake.alarm", at_ms=clock.now_ms())
        async with running_host(store, lambda context: FakeBody(context, log), deaths=[found], clock=clock):
            while (record := record_of(store)).retries == retries:
                await clock.sleep_until_ms(clock.now_ms() + 1)
        assert record.retries == retries + 1
        assert record.scheduled_ms == EPOCH_MS - 1000
        await clock.sleep_until_ms(record.due_ms)
    found = death(kind=EventKind.ALARM, name="Fake.alarm", at_ms=clock.now_ms())
    async with running_host(store, lambda context: FakeBody(context, log), deaths=[found], clock=clock):
        await clock.sleep_until_ms(clock.now_ms() + 3_600_000)
    assert record_of(store).due_ms is None
    assert log == []
