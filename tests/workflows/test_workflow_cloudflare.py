"""Behaviours that the public tests of cloudflare/workers-sdk, packages/workflows-shared, assert and that no other file
here has. Streams, rollback, names and configs, and mocks have files of their own. Left out: what only their local
engine shows of its inside, as its abort reasons and its files on disk."""

from __future__ import annotations

import re
from typing import Any

import pytest
import trio
from workflow_world import ENDS, WORKFLOW, World, flow, flow_that_ends, open_world

from edge_runtime.workers.workflows import NonRetryableError
from edge_runtime.workflows.control.describe import REDACTED
from edge_runtime.workflows.script.errors import WorkflowError


async def fetch(world: World, call: Any) -> Any:
    async def handler() -> Any:
        return await call(world.namespace)

    return await world.handler(handler)


async def test_event_carries_params_the_name_of_the_workflow_and_the_id(autojump_clock: object) -> None:
    async def run(event: Any, step: Any) -> list[Any]:
        return [event.payload, event.workflowName, event.instanceId]

    async with open_world(flow(run)) as world:
        await world.create("my-id", {"key": "value"})
        assert (await world.settled("my-id")).output == [{"key": "value"}, WORKFLOW, "my-id"]
        handle = await fetch(world, lambda namespace: namespace.create())
        assert re.fullmatch(r"[0-9a-f-]{36}", handle.id)
        assert (await world.settled(handle.id)).output[0] == {}


async def test_callback_is_told_the_name_the_occurrence_the_attempt_and_the_whole_config(
    autojump_clock: object,
) -> None:
    seen: list[Any] = []

    async def run(event: Any, step: Any) -> None:
        async def note(ctx: Any) -> None:
            seen.append([ctx.step.name, ctx.step.count, ctx.attempt, ctx.config.retries, ctx.config.timeout])

        await step.do("same", note)
        await step.do("same", {"retries": {"limit": 3, "delay": 500}, "timeout": "5 minutes"}, note)
        await step.do("other", {"retries": {"limit": 1, "delay": lambda given: 1, "backoff": "constant"}}, note)

    async with open_world(flow(run)) as world:
        await world.create()
        await world.settled()
    assert seen == [
        ["same", 1, 1, {"limit": 5, "delay": 1000, "backoff": "exponential"}, "10 minutes"],
        ["same", 2, 1, {"limit": 3, "delay": 500, "backoff": "exponential"}, "5 minutes"],
        ["other", 1, 1, {"limit": 1, "backoff": "constant"}, "10 minutes"],
    ]


async def test_non_retryable_error_is_shown_as_raised_at_its_attempt_at_the_step_and_at_the_instance(
    autojump_clock: object,
) -> None:
    async def run(event: Any, step: Any) -> None:
        async def fails() -> None:
            raise NonRetryableError("my own message")

        await step.do("fails", fails)

    async with open_world(flow(run)) as world:
        await world.create()
        ended = await world.settled()
        (shown,) = world.describe().steps
        (attempt,) = shown.attempts
    assert (ended.status, ended.output) == ("errored", None)
    assert ended.error == {"name": "NonRetryableError", "message": "my own message"}
    for error in (attempt.error, shown.error):
        assert error is not None
        assert (error.name, error.message) == ("NonRetryableError", "my own message")


async def test_non_retryable_error_that_was_caught_is_caught_again_at_replay_and_its_step_not_run(
    autojump_clock: object,
) -> None:
    ran: list[int] = []
    caught: list[str] = []

    async def run(event: Any, step: Any) -> None:
        async def fails() -> None:
            ran.append(1)
            raise NonRetryableError("refused")

        try:
            await step.do("fails", fails)
        except NonRetryableError as error:
            caught.append(str(error))
        await step.sleep("nap", "1 hour")

    async with open_world(flow(run), idle_ms=1000) as world:
        await world.create()
        assert (await world.settled()).status == "complete"
    assert ran == [1]
    assert caught == ["refused", "refused"]


@pytest.mark.parametrize("end", ENDS)
async def test_terminate_is_refused_once_an_instance_has_ended(autojump_clock: object, end: str) -> None:
    async with open_world(flow_that_ends(end)) as world:
        await world.bring_to(end)
        with pytest.raises(WorkflowError, match="Cannot terminate instance since its on a finite state"):
            await world.terminate()
        assert (await world.status()).status == end


async def test_terminated_instance_begins_no_step_after_its_wait(autojump_clock: object) -> None:
    async def run(event: Any, step: Any) -> None:
        await step.wait_for_event("wait", "never", timeout="1 second")
        await step.do("after", lambda: 1)

    async with open_world(flow(run)) as world:
        await world.create()
        await world.settled("one", "waiting")
        await world.terminate()
        await trio.sleep(10)
        assert await world.status() == {"status": "terminated", "output": None, "error": None}
        assert [(step.name, step.state) for step in world.describe().steps] == [("wait-1", "cut")]


async def test_wait_that_was_paused_takes_the_event_sent_after_the_resume(autojump_clock: object) -> None:
    async def run(event: Any, step: Any) -> Any:
        await step.do("first", lambda: 1)
        await step.wait_for_event("signal", "continue", timeout="30 seconds")
        return await step.do("after", lambda: 2)

    async with open_world(flow(run)) as world:
        await world.create()
        await world.settled("one", "waiting")
        await fetch(world, _pause)
        assert (await world.status()).status == "paused"
        handle = await fetch(world, lambda namespace: namespace.get("one"))
        await fetch(world, lambda namespace: handle.resume())
        await world.send("continue", {"done": True})
        assert (await world.settled()).output == 2
        assert [step.name for step in world.describe().steps] == ["first-1", "signal-1", "after-1"]


async def test_instances_are_addressed_by_ids_that_schedules_make_and_not_by_others(autojump_clock: object) -> None:
    async def run(event: Any, step: Any) -> None:
        return

    async with open_world(flow(run)) as world:
        with pytest.raises(WorkflowError, match=r"\(instance\.not_found\)"):
            await fetch(world, lambda namespace: namespace.get("*/30 * * * *-1786001400000"))
        for wrong in ("", "invalid!"):
            with pytest.raises(WorkflowError, match=r"\(instance\.invalid_id\) Instance ID is invalid"):
                await fetch(world, lambda namespace, wrong=wrong: namespace.get(wrong))


async def test_batch_creates_all_and_refuses_an_empty_one(autojump_clock: object) -> None:
    async def run(event: Any, step: Any) -> Any:
        return event.payload

    async with open_world(flow(run)) as world:
        options = [{"id": f"batch-{number}", "params": number} for number in range(3)]
        made = await fetch(world, lambda namespace: namespace.create_batch(options))
        assert [handle.id for handle in made] == ["batch-0", "batch-1", "batch-2"]
        assert [(await world.settled(f"batch-{number}")).output for number in range(3)] == [0, 1, 2]
        with pytest.raises(WorkflowError, match="batchCreate should have at least 1 instance"):
            await fetch(world, lambda namespace: namespace.create_batch([]))
        with pytest.raises(WorkflowError, match=r"Workflow instance has invalid id"):
            await fetch(world, lambda namespace: namespace.create(id="#invalid!"))


async def test_several_events_one_after_the_other_reach_their_waits(autojump_clock: object) -> None:
    async def run(event: Any, step: Any) -> list[Any]:
        first = await step.wait_for_event("wait-1", "event-1")
        second = await step.wait_for_event("wait-2", "event-2")
        return [first.payload, first.type, second.payload]

    async with open_world(flow(run)) as world:
        await world.create()
        await world.send("event-1", {"value": "first"})
        await world.send("event-2", {"value": "second"})
        assert (await world.settled()).output == [{"value": "first"}, "event-1", {"value": "second"}]


async def test_steps_up_to_the_limit_succeed(autojump_clock: object) -> None:
    async def run(event: Any, step: Any) -> str:
        for number in range(event.payload):
            await step.do(f"step-{number}", lambda: 1)
        return "done"

    async with open_world(flow(run), steps_max=3) as world:
        await world.create("exact", 3)
        await world.create("over", 4)
        assert (await world.settled("exact")).output == "done"
        assert "limit of 3 steps" in (await world.settled("over")).error.message


async def test_callback_cannot_change_the_configuration_of_its_step(autojump_clock: object) -> None:
    seen: list[Any] = []

    async def run(event: Any, step: Any) -> None:
        async def fails(ctx: Any) -> None:
            seen.append(ctx.config.retries.limit)
            ctx.config.retries["limit"] = 100
            raise ValueError("no")

        await step.do("step", {"retries": {"limit": 2, "delay": 0}}, fails)

    async with open_world(flow(run)) as world:
        await world.create()
        assert (await world.settled()).status == "errored"
    assert seen == [2, 2, 2]


async def test_bytes_of_any_form_are_results_at_first_and_at_replay(autojump_clock: object) -> None:
    async def run(event: Any, step: Any) -> list[Any]:
        big = bytes(range(256)) * 800

        async def whole() -> bytes:
            return big

        async def view() -> memoryview:
            return memoryview(big * 4)[1000:201_000]

        async def nested() -> Any:
            return {"parts": [{"data": b"abc"}]}

        found = [await step.do("whole", whole), await step.do("view", view)]
        deep = await step.do("nested", nested)
        await step.sleep("nap", "1 hour")
        return [len(found[0]), len(found[1]), bytes(found[1])[:3], bytes(deep.parts[0].data)]

    async with open_world(flow(run), idle_ms=1000) as world:
        await world.create()
        offset = 1000 % 256
        assert (await world.settled()).output == [204_800, 200_000, bytes((offset, offset + 1, offset + 2)), b"abc"]


async def test_sensitive_result_is_shown_redacted_and_flows_on_but_its_error_is_shown(autojump_clock: object) -> None:
    async def run(event: Any, step: Any) -> Any:
        async def fails() -> None:
            raise ValueError("the reason")

        secret = await step.do("secret", {"sensitive": "output"}, lambda: "token")
        try:
            await step.do("fails", {"sensitive": "output", "retries": {"limit": 0, "delay": 0}}, fails)
        except ValueError as error:
            return [secret, str(error)]

    async with open_world(flow(run)) as world:
        await world.create()
        assert (await world.settled()).output == ["token", "the reason"]
        secret, fails = world.describe().steps
        assert secret.output == REDACTED
        assert fails.error is not None
        assert fails.error.message == "the reason"


async def test_pause_waits_for_all_steps_that_run_at_the_same_time(autojump_clock: object) -> None:
    ended: list[str] = []

    async def run(event: Any, step: Any) -> None:
        def body(name: str, seconds: float) -> Any:
            async def work() -> None:
                await trio.sleep(seconds)
                ended.append(name)

            return work

        pair = [step.do("short", body("short", 1)), step.do("long", body("long", 3))]
        for promise in pair:
            await promise
        await step.do("after", body("after", 1))

    async with open_world(flow(run)) as world:
        await world.create()
        await trio.sleep(0.5)
        handle = await fetch(world, lambda namespace: namespace.get("one"))
        await fetch(world, lambda namespace: handle.pause())
        await trio.sleep(1)
        assert (await world.status()).status == "waitingForPause"
        await trio.sleep(2)
        assert (await world.status()).status == "paused"
        assert ended == ["short", "long"]
        await fetch(world, lambda namespace: handle.resume())
        await world.settled()
    assert ended == ["short", "long", "after"]


async def test_instance_killed_while_a_pause_is_coming_is_paused_at_its_next_start(autojump_clock: object) -> None:
    async def run(event: Any, step: Any) -> str:
        async def long() -> None:
            await trio.sleep(5)

        await step.do("long", {"retries": {"limit": 1, "delay": 0}}, long)
        return "end"

    async with open_world(flow(run)) as world:
        await world.create()
        await trio.sleep(1)
        await fetch(world, lambda namespace: _pause(namespace))
        assert (await world.status()).status == "waitingForPause"
    async with open_world(flow(run), world.store.crash()) as world:
        await world.settled("one", "paused")
        await trio.sleep(100)
        assert (await world.status()).status == "paused"
        handle = await fetch(world, lambda namespace: namespace.get("one"))
        await fetch(world, lambda namespace: handle.resume())
        assert (await world.settled()).output == "end"


async def _pause(namespace: Any) -> None:
    await (await namespace.get("one")).pause()
