"""Instances whose code outside of steps ends their process: counted, put off, and failed in the end."""

from __future__ import annotations

import pytest
import trio
from workflow_world import WORKER, WORKFLOW, open_world

from edge_runtime.control import ActorDeath
from edge_runtime.event import EventKind, Outcome
from edge_runtime.limits import INSTANCE_DEATHS_DOUBTED_MAX, INSTANCE_DEATHS_MAX, WORKFLOW_RESUME_MS
from edge_runtime.metering.panel import actor_number
from edge_runtime.store.memory_store import MemoryStore
from edge_runtime.testing.surroundings import EPOCH_MS, JumpingClock
from edge_runtime.workers.entrypoints import WorkflowEntrypoint
from edge_runtime.workflows.stored import instances


class Dies(WorkflowEntrypoint):
    """Does not come back from `run`, until it is told to."""

    mended = False
    reached: trio.Event

    async def run(self, event, step):
        done = await step.do("before", lambda: 1)
        if not type(self).mended:
            type(self).reached.set()
            await trio.sleep_forever()
        return done


class Lives:
    """The processes of one data directory, one after the other."""

    def __init__(self, entrypoint=Dies):
        self.entrypoint = entrypoint
        self.store = MemoryStore()
        self.clock = JumpingClock()
        entrypoint.mended, entrypoint.reached = False, trio.Event()

    def death(self, *, certain=True, alone=True, delay_ms=0, kind=EventKind.WORKFLOW, id="one"):
        self.clock.shift_ms += 1
        now_ms = self.clock.now_ms()
        actor = actor_number(instances.address_of(WORKER, WORKFLOW, id))
        return ActorDeath(actor, kind, "name", now_ms, now_ms + delay_ms, alone, certain, "it exited with code 7")

    def open(self, *deaths):
        return open_world(self.entrypoint, self.store, clock=self.clock, deaths=deaths)

    async def die(self, *deaths):
        """One process, to where the script would end it."""
        self.entrypoint.reached = trio.Event()
        async with self.open(*deaths) as world:
            if not deaths:
                await world.create()
            with trio.move_on_after(10 * WORKFLOW_RESUME_MS / 1000):
                await self.entrypoint.reached.wait()
            return world.events.ended


@pytest.mark.parametrize(("certain", "allowed"), [(True, INSTANCE_DEATHS_MAX), (False, INSTANCE_DEATHS_DOUBTED_MAX)])
async def test_instance_that_ends_its_process_again_and_again_fails(certain, allowed, autojump_clock):
    lives = Lives()
    await lives.die()
    for _ in range(allowed - 1):
        await lives.die(lives.death(certain=certain))
        assert lives.entrypoint.reached.is_set()
    ended = await lives.die(lives.death(certain=certain))
    assert not lives.entrypoint.reached.is_set()
    assert ended == [(EventKind.WORKFLOW, WORKFLOW, Outcome.EXCEPTION, "one errored")]
    async with lives.open() as world:
        status = await world.status()
        assert status["status"] == "errored"
        assert status["error"]["name"] == "WorkflowFatalError"
        assert f"ended {allowed} times in a row" in status["error"]["message"]
        assert "it exited with code 7" in status["error"]["message"]


async def test_the_same_death_counts_once_in_however_many_processes_hear_of_it(autojump_clock):
    lives = Lives()
    await lives.die()
    death = lives.death()
    for _ in range(2 * INSTANCE_DEATHS_MAX):
        await lives.die(death)
        assert lives.entrypoint.reached.is_set()


async def test_deaths_of_steps_and_of_others_are_not_the_instances(autojump_clock):
    lives = Lives()
    await lives.die()
    for _ in range(2 * INSTANCE_DEATHS_MAX):
        await lives.die(lives.death(kind=EventKind.STEP), lives.death(id="two"))
        assert lives.entrypoint.reached.is_set()
    async with lives.open() as world:
        assert world.describe().record.deaths is None


async def test_instance_beside_which_others_ran_is_put_off_and_never_fails_for_it(autojump_clock):
    lives = Lives()
    await lives.die()
    for _ in range(INSTANCE_DEATHS_DOUBTED_MAX + 1):
        death = lives.death(alone=False, certain=False, delay_ms=1)
        await lives.die(death)
        assert lives.entrypoint.reached.is_set()
    async with lives.open() as world:
        assert world.describe().record.not_before_ms == death.until_ms


async def test_instance_is_left_alone_until_it_may_run_again_and_then_runs(autojump_clock):
    lives = Lives()
    await lives.die()
    lives.entrypoint.mended = True
    death = lives.death(delay_ms=60_000)
    async with lives.open(death) as world:
        while (record := world.describe().record).deaths is None:
            await trio.sleep(1)
        assert record.status is instances.Status.RUNNING
        assert record.not_before_ms == death.until_ms
        status = await world.settled()
        assert (status["status"], status["output"]) == ("complete", 1)
        assert world.describe().record.ended_ms >= death.until_ms > lives.clock.now_ms() - 60_000


async def test_instance_that_gets_on_between_its_deaths_goes_on(autojump_clock):
    class Slow(WorkflowEntrypoint):
        reached: trio.Event
        mended = False

        async def run(self, event, step):
            for number in range(2 * INSTANCE_DEATHS_MAX):
                if number >= type(self).allowed:
                    type(self).reached.set()
                    await trio.sleep_forever()
                await step.do(f"step {number}", lambda: None)
            return "done"

    Slow.allowed = 1
    lives = Lives(Slow)
    await lives.die()
    for number in range(2 * INSTANCE_DEATHS_MAX - 1):
        Slow.allowed = number + 2
        await lives.die(lives.death())
    async with lives.open() as world:
        assert (await world.settled())["output"] == "done"


async def test_restarted_instance_begins_with_a_clean_record(autojump_clock):
    lives = Lives()
    await lives.die()
    for _ in range(INSTANCE_DEATHS_MAX):
        death = lives.death()
        await lives.die(death)
    lives.entrypoint.mended = True
    async with lives.open(death) as world:
        assert (await world.status())["status"] == "errored"

        async def restart():
            await (await world.namespace.get("one")).restart()

        await world.handler(restart)
        assert (await world.settled("one", "complete"))["output"] == 1
        assert world.describe().record.deaths.count == 0


async def test_instance_that_is_left_alone_can_be_terminated(autojump_clock):
    lives = Lives()
    await lives.die()
    async with lives.open(lives.death(delay_ms=600_000)) as world:
        while world.describe().record.deaths is None:
            await trio.sleep(1)

        async def terminate():
            await (await world.namespace.get("one")).terminate()

        await world.handler(terminate)
        assert (await world.settled())["status"] == "terminated"
        assert lives.clock.now_ms() < EPOCH_MS + 600_000
