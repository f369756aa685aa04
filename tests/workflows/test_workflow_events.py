"""Events to instances: before, during and after the wait, twice, of another type, to finished and unknown instances."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from seam_fakes import CountingRandomness
from workflow_world import ENDS, WORKER, WORKFLOW, World, flow, flow_that_ends, open_world

from edge_runtime.actors import timers
from edge_runtime.store import keys
from edge_runtime.store.api import Batch, Table
from edge_runtime.workers.js_object import JsException
from edge_runtime.workflows.script.errors import WorkflowError
from edge_runtime.workflows.stored import inbox, instances


async def one_wait(event: Any, step: Any) -> Any:
    await step.sleep("first", "1 minute")
    try:
        return (await step.wait_for_event("paid", "paid", timeout="1 hour")).payload
    except JsException as error:
        return error.name


def inbox_of(world: World) -> list[str]:
    address = instances.address_of(WORKER, WORKFLOW, "one")
    with world.store.snapshot() as snapshot:
        return [str(keys.decode(key)[-2]) for key in inbox.event_keys(snapshot, address)]


@pytest.mark.parametrize("evicted", [False, True])
@pytest.mark.parametrize("sent_s", [1, 120])
async def test_event_reaches_its_wait_sent_before_or_during_it(
    autojump_clock: object, sent_s: float, evicted: bool
) -> None:
    async with open_world(flow(one_wait), idle_ms=1000 if evicted else 300_000) as world:
        await world.create()
        await trio.sleep(sent_s)
        await world.send("paid", sent_s)
        assert (await world.settled()).output == sent_s
        assert inbox_of(world) == []


async def test_event_after_the_timeout_is_kept_for_the_next_wait_of_its_type(autojump_clock: object) -> None:
    async def run(event: Any, step: Any) -> list[Any]:
        received = []
        for number in range(3):
            try:
                received.append((await step.wait_for_event(f"wait-{number}", "paid", timeout=500)).payload)
            except JsException as error:
                received.append(error.name)
                await step.sleep("between", "1 minute")
        return received

    async with open_world(flow(run)) as world:
        await world.create()
        await trio.sleep(0.1)
        await world.send("paid", "first")
        await trio.sleep(10)
        await world.send("paid", "third")
        assert (await world.settled()).output == ["first", "WorkflowTimeoutError", "third"]


async def test_event_sent_twice_counts_twice_and_one_nobody_waits_for_ends_with_the_instance(
    autojump_clock: object,
) -> None:
    async def run(event: Any, step: Any) -> list[Any]:
        found = [(await step.wait_for_event("paid", "paid")).payload for _ in range(2)]
        await step.sleep("nap", "1 minute")
        return found

    async with open_world(flow(run)) as world:
        await world.create()
        for _ in range(3):
            await world.send("paid", "again")
        await world.settled("one", "waiting")
        await trio.sleep(1)
        assert inbox_of(world) == ["paid"]
        assert (await world.settled()).output == ["again", "again"]
        assert inbox_of(world) == []


async def test_event_of_another_type_does_not_end_the_wait_and_stays(autojump_clock: object) -> None:
    async with open_world(flow(one_wait)) as world:
        await world.create()
        await trio.sleep(100)
        await world.send("refund", 1)
        await trio.sleep(1)
        assert (await world.status()).status == "waiting"
        assert inbox_of(world) == ["refund"]
        await world.send("paid", 2)
        assert (await world.settled()).output == 2


@pytest.mark.parametrize("end", ENDS)
async def test_event_to_a_finished_instance_is_refused(autojump_clock: object, end: str) -> None:
    async with open_world(flow_that_ends(end)) as world:
        await world.bring_to(end)
        with pytest.raises(WorkflowError) as caught:
            await world.send("paid")
        assert caught.value.code == "instance.not_running"
        assert inbox_of(world) == []


async def test_event_to_an_unknown_instance_and_of_a_wrong_form_is_refused(autojump_clock: object) -> None:
    async with open_world(flow(one_wait)) as world:
        await world.create()
        with pytest.raises(WorkflowError, match=r"\(instance\.not_found\)"):
            await world.send("paid", id="nobody")
        for wrong in ("", "a.b", "x" * 101, "with space"):
            with pytest.raises(JsException, match="letters, digits, hyphens and underscores"):
                await world.send(wrong)
        with pytest.raises(WorkflowError, match=r"\(instance\.invalid_event\)"):
            await world.send("paid", "x" * (1024 * 1024))
        with pytest.raises(JsException, match="Could not serialize"):
            await world.send("paid", object())
        assert inbox_of(world) == []


async def test_event_that_another_process_leaves_while_the_instance_ends_does_no_harm(autojump_clock: object) -> None:
    """It was accepted before the end was durable, so nobody reads it; a command so left is still taken."""

    async def run(event: Any, step: Any) -> str:
        await step.sleep("nap", "1 minute")
        return "end"

    async with open_world(flow(run), random=CountingRandomness()) as world:
        await world.create()
        await world.settled("one", "waiting")
        batch = Batch()
        address = instances.address_of(WORKER, WORKFLOW, "one")
        inbox.put_event(batch, address, "1", "paid", b"", 0)
        inbox.put_command(batch, address, "2", inbox.Restart(), 0)
        await world.settled()
        await world.store.commit(batch)
        assert (await world.status()).status == "complete"
        # Some wake-up comes for what was left.
        wake = Batch()
        timers.wake(wake, address, world.clock.now_ms(), "token")
        await world.store.commit(wake)
        world.host.timers_changed()
        await world.settled("one", "waiting")
        assert (await world.settled()).output == "end"
        with world.store.snapshot() as snapshot:
            assert list(snapshot.keys(Table.INBOX)) == []
