from datetime import datetime
from itertools import pairwise

import pytest
import trio
from durable_object_world import world

from edge_runtime.errors import ActorBroken
from edge_runtime.event import Outcome
from edge_runtime.store.api import Table
from edge_runtime.store.memory_store import MemoryStore
from edge_runtime.testing.surroundings import EPOCH_MS
from edge_runtime.workers import DurableObject

ran = []


@pytest.fixture(autouse=True)
def _forget():
    ran.clear()


def now_ms():
    return EPOCH_MS + int(trio.current_time() * 1000)


class Alarmed(DurableObject):
    fail = 0

    async def set(self, due, **options):
        await self.ctx.storage.setAlarm(due, **options)
        return await self.ctx.storage.getAlarm()

    async def set_many(self, *dues):
        for due in dues:
            await self.ctx.storage.setAlarm(due)

    async def get(self):
        return await self.ctx.storage.getAlarm()

    async def remove(self):
        await self.ctx.storage.deleteAlarm()

    async def alarm(self, info):
        ran.append((now_ms(), self.ctx.id.name, dict(info), await self.ctx.storage.getAlarm()))
        await self.on_alarm()

    async def on_alarm(self):
        pass


class Failing(Alarmed):
    async def on_alarm(self):
        await self.ctx.storage.put("attempts", len(ran))
        raise KeyError("not yet")


class Again(Alarmed):
    async def on_alarm(self):
        if len(ran) < 3:
            await self.ctx.storage.setAlarm(now_ms() + 1000)
            if len(ran) == 1:
                raise ValueError("replaced all the same")


class Aborting(Alarmed):
    async def on_alarm(self):
        if len(ran) < 3:
            self.ctx.abort("reset", retryAlarm=len(ran) == 1)


class Stuck(Alarmed):
    async def on_alarm(self):
        if len(ran) == 1:
            await trio.sleep_forever()


class NoArguments(DurableObject):
    def alarm(self):
        ran.append("no arguments")

    def set(self):
        self.ctx.storage.setAlarm(1)


class WithoutAlarm(DurableObject):
    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        ctx.storage.setAlarm(now_ms() + 1000)

    async def due(self):
        return await self.ctx.storage.getAlarm()


async def test_alarm_fires_once_never_early_and_knows_the_name(autojump_clock):
    async with world(Alarmed) as w:
        due = now_ms() + 60_000
        assert await w.call("a", "set", due) == due
        await trio.sleep(300)
        [(at, name, info, alarm)] = ran
        assert at >= due
        assert name == "a"
        assert info == {"retryCount": 0, "isRetry": False, "scheduledTime": due}
        assert alarm is None
        assert await w.call("a", "get") is None
        assert ("Alarmed.alarm", Outcome.OK) in w.events.ended
        assert not w.store._image[Table.TIMERS].order


async def test_a_new_alarm_replaces_the_old_one(autojump_clock):
    async with world(Alarmed) as w:
        await w.call("a", "set_many", now_ms() + 10_000, now_ms() + 90_000, now_ms() + 50_000)
        await trio.sleep(300)
        assert len(ran) == 1
        assert 50_000 <= ran[0][0] - EPOCH_MS < 90_000


async def test_a_deleted_alarm_does_not_fire(autojump_clock):
    async with world(Alarmed) as w:
        await w.call("a", "set", now_ms() + 10_000)
        await w.call("a", "remove")
        assert await w.call("a", "get") is None
        await trio.sleep(60)
        assert ran == []


async def test_a_past_time_means_now(autojump_clock):
    async with world(Alarmed) as w:
        assert await w.call("a", "set", 5) >= EPOCH_MS
        await trio.sleep(1)
        assert len(ran) == 1


@pytest.mark.parametrize(("due", "error"), [(0, TypeError), (-1, TypeError), ("soon", TypeError), (True, TypeError)])
async def test_a_wrong_alarm_time_is_refused(due, error):
    async with world(Alarmed) as w:
        with pytest.raises(error):
            await w.call("a", "set", due)
        assert await w.call("a", "get") is None


async def test_a_datetime_is_local_time_when_naive(autojump_clock):
    async with world(Alarmed) as w:
        moment = datetime.fromtimestamp((now_ms() + 5000) / 1000)
        assert await w.call("a", "set", moment) == int(moment.timestamp() * 1000)


async def test_failed_alarm_is_retried_six_times_with_growing_delays_and_then_dropped(autojump_clock, caplog):
    async with world(Failing) as w:
        due = now_ms() + 1000
        await w.call("a", "set", due)
        await trio.sleep(1000)
        assert len(ran) == 7
        delays = [round((after[0] - before[0]) / 1000) for before, after in pairwise(ran)]
        assert delays == [2, 4, 8, 16, 32, 64]
        assert [entry[2]["retryCount"] for entry in ran] == list(range(7))
        assert {entry[2]["scheduledTime"] for entry in ran} == {due}
        assert await w.call("a", "get") is None
        assert "dropped after 6 retries" in caplog.text
        assert not w.store._image[Table.TIMERS].order


async def test_retries_go_on_after_a_restart(autojump_clock):
    store = MemoryStore()
    async with world(Failing, store=store) as w:
        await w.call("a", "set", now_ms() + 1000)
        await trio.sleep(2)
    assert len(ran) == 1
    async with world(Failing, store=store.crash()):
        await trio.sleep(3)
    assert [entry[2]["retryCount"] for entry in ran] == [0, 1]
    assert ran[1][1] == "a"


async def test_an_alarm_set_by_the_handler_replaces_the_retry(autojump_clock):
    async with world(Again) as w:
        await w.call("a", "set", now_ms() + 1000)
        await trio.sleep(60)
        assert len(ran) == 3
        assert [entry[2]["isRetry"] for entry in ran] == [False] * 3


async def test_abort_in_the_handler_counts_as_a_failure_unless_told_otherwise(autojump_clock):
    async with world(Aborting) as w:
        await w.call("a", "set", now_ms() + 1000)
        await trio.sleep(600)
        assert [entry[2]["retryCount"] for entry in ran] == [0, 1]
        assert await w.call("a", "get") is None


async def test_an_alarm_that_ran_for_too_long_is_retried(autojump_clock):
    async with world(Stuck) as w:
        await w.call("a", "set", now_ms() + 1000)
        await trio.sleep(20 * 60)
        assert [entry[2]["retryCount"] for entry in ran] == [0, 1]
        assert ran[1][0] - ran[0][0] >= 15 * 60_000
        assert ("Stuck.alarm", Outcome.EXCEEDED_WALL_TIME) in w.events.ended


async def test_release_during_the_handler_keeps_the_alarm(autojump_clock):
    store = MemoryStore()
    async with world(Stuck, store=store) as w:
        await w.call("a", "set", now_ms() + 1000)
        await trio.sleep(10)
        await w.host.release()
    async with world(Stuck, store=store):
        await trio.sleep(1)
    assert len(ran) == 2


async def test_handler_without_parameters(autojump_clock):
    async with world(NoArguments) as w:
        await w.call("a", "set")
        await trio.sleep(1)
    assert ran == ["no arguments"]


async def test_an_alarm_without_handler_is_kept_until_it_is_due_and_dropped_with_a_warning(autojump_clock, caplog):
    async with world(WithoutAlarm) as w:
        assert await w.call("a", "due") == now_ms() + 1000
        await trio.sleep(5)
        assert "has no alarm() handler" in caplog.text
        assert not w.store._image[Table.TIMERS].order
        assert await w.call("a", "due") is None


async def test_a_thousand_alarms_fire_once_each_and_requests_are_answered_meanwhile(autojump_clock):
    async with world(Alarmed) as w:

        async def script():
            promises = [w.ns["Alarmed"].getByName(str(n)).set(now_ms() + 1000) for n in range(1000)]
            for promise in promises:
                await promise

        await w.run(script)
        await trio.sleep(1.2)
        assert await w.call("other", "get") is None
        await trio.sleep(10)
        assert len(ran) == 1000
        assert len({entry[1] for entry in ran}) == 1000


async def test_a_broken_constructor_keeps_the_alarm(autojump_clock):
    store = MemoryStore()
    async with world(Alarmed, store=store) as w:
        await w.call("a", "set", now_ms() + 1000)

    class Broken(DurableObject):
        def __init__(self, ctx, env):
            ran.append("constructed")
            raise RuntimeError("no")

    Broken.__name__ = "Alarmed"
    async with world(Broken, store=store) as w:
        await trio.sleep(20)
        assert 2 <= len(ran) <= 6
        with pytest.raises(Exception, match="no") as raised:
            await w.call("a", "get")
        assert not isinstance(raised.value, ActorBroken)
        assert store._image[Table.TIMERS].order
