"""Instances on the real actor host: results, retries, time, events, eviction."""

from __future__ import annotations

import pytest
import trio
from workflow_world import WORKFLOW, open_world

from edge_runtime.event import EventKind
from edge_runtime.workers.entrypoints import WorkflowEntrypoint
from edge_runtime.workers.workflows import NonRetryableError
from edge_runtime.workflows.script.errors import WorkflowError

FAST = {"retries": {"limit": 2, "delay": 1000, "backoff": "constant"}}


async def test_steps_run_in_order_and_output_is_stored(autojump_clock) -> None:
    class Flow(WorkflowEntrypoint):
        async def run(self, event, step):
            first = await step.do("first", lambda: event["payload"]["n"] + 1)
            second = await step.do("second", lambda: {"sum": first + 1, "kind": "tuple", "list": (1, 2)})
            return {"second": second, "id": event.instanceId, "workflow": event.workflowName}

    async with open_world(Flow) as world:
        await world.create(params={"n": 1})
        status = await world.settled()
    assert status == {
        "status": "complete",
        "output": {
            "second": {"sum": 3, "kind": "tuple", "list": [1, 2]},
            "id": "one",
            "workflow": WORKFLOW,
        },
        "error": None,
    }
    assert [(step.name, step.state) for step in world.describe().steps] == [
        ("first-1", "succeeded"),
        ("second-1", "succeeded"),
    ]


async def test_result_is_a_copy_from_the_first_run_on(autojump_clock) -> None:
    seen = []
    original = {"items": [1]}

    class Flow(WorkflowEntrypoint):
        async def run(self, event, step):
            result = await step.do("make", lambda: original)
            seen.append(result is original)
            result["items"].append(2)
            return result.items

    async with open_world(Flow) as world:
        await world.create()
        await world.settled()
    assert seen == [False]
    assert original == {"items": [1]}


async def test_failed_attempts_are_retried_after_backoff(autojump_clock) -> None:
    times = []

    class Flow(WorkflowEntrypoint):
        async def run(self, event, step):
            async def flaky(ctx):
                times.append((ctx.attempt, round(trio.current_time())))
                if ctx.attempt < 4:
                    raise ValueError("not yet")
                return ctx.attempt

            return await step.do("flaky", {"retries": {"limit": 5, "delay": "10 seconds"}}, flaky)

    async with open_world(Flow) as world:
        start = round(trio.current_time())
        await world.create()
        status = await world.settled()
    assert status.output == 4
    assert [(attempt, at - start) for attempt, at in times] == [(1, 0), (2, 10), (3, 30), (4, 70)]
    attempts = world.describe().steps[0].attempts
    assert [attempt.state for attempt in attempts] == ["failed", "failed", "failed", "succeeded"]


async def test_last_error_reaches_run_with_its_class(autojump_clock) -> None:
    class Flow(WorkflowEntrypoint):
        async def run(self, event, step):
            async def failing():
                raise KeyError("sku")

            try:
                await step.do("failing", FAST, failing)
            except KeyError as error:
                return f"caught {error}"

    async with open_world(Flow) as world:
        await world.create()
        status = await world.settled()
    assert status.output == "caught 'sku'"
    assert len(world.describe().steps[0].attempts) == 3


async def test_non_retryable_error_ends_the_step_and_uncaught_the_instance(autojump_clock) -> None:
    calls = []

    class Flow(WorkflowEntrypoint):
        async def run(self, event, step):
            async def failing():
                calls.append(1)
                raise NonRetryableError("card refused")

            await step.do("charge", failing)

    async with open_world(Flow) as world:
        await world.create()
        status = await world.settled()
    assert calls == [1]
    assert status.status == "errored"
    assert status.error == {"name": "NonRetryableError", "message": "card refused"}


async def test_timeout_cancels_the_attempt_and_counts(autojump_clock) -> None:
    cancelled = []

    class Flow(WorkflowEntrypoint):
        async def run(self, event, step):
            async def slow():
                try:
                    await trio.sleep(1000)
                finally:
                    cancelled.append(trio.current_time())

            config = {"retries": {"limit": 1, "delay": 0}, "timeout": "30 seconds"}
            await step.do("slow", config, slow)

    async with open_world(Flow) as world:
        await world.create()
        status = await world.settled()
    assert len(cancelled) == 2
    assert status.error == {"name": "WorkflowTimeoutError", "message": "Execution timed out after 30000ms"}


async def test_dynamic_delay_gets_context_and_error(autojump_clock) -> None:
    asked = []
    times = []

    class Flow(WorkflowEntrypoint):
        async def run(self, event, step):
            def delay(given):
                asked.append((given.ctx.attempt, str(given.error), "delay" in given.ctx.config.retries))
                return "7 seconds"

            async def flaky(ctx):
                times.append(trio.current_time())
                if ctx.attempt == 1:
                    raise ValueError("busy")

            await step.do("flaky", {"retries": {"limit": 1, "delay": delay}}, flaky)

    async with open_world(Flow) as world:
        await world.create()
        await world.settled()
    assert asked == [(1, "busy", False)]
    assert round(times[1] - times[0]) == 7


async def test_instance_that_sleeps_shows_waiting_and_is_evicted_and_replayed(autojump_clock) -> None:
    runs, bodies = [], []

    class Flow(WorkflowEntrypoint):
        async def run(self, event, step):
            runs.append(1)
            value = await step.do("before", lambda: bodies.append("before") or len(bodies))
            await step.sleep("night", "8 hours")
            return [value, await step.do("after", lambda: bodies.append("after") or len(bodies))]

    async with open_world(Flow, idle_ms=1000) as world:
        start = trio.current_time()
        await world.create()
        assert (await world.settled("one", "waiting"))["status"] == "waiting"
        await trio.sleep(3600)
        assert world.host.active == 0
        assert world.events.ended[-1][0] is EventKind.WORKFLOW
        status = await world.settled()
        assert trio.current_time() - start >= 8 * 3600
    assert status.output == [1, 2]
    assert bodies == ["before", "after"]
    assert len(runs) == 2


async def test_events_before_and_after_the_wait_are_delivered_once_in_order(autojump_clock) -> None:
    class Flow(WorkflowEntrypoint):
        async def run(self, event, step):
            got = [
                (await step.wait_for_event("first", "paid")).payload,
                (await step.wait_for_event("second", type="paid", timeout="1 hour")).payload,
                (await step.waitForEvent("third", {"type": "shipped"})).payload,
            ]
            await step.sleep("pause", 1000)
            return got

    async with open_world(Flow) as world:
        await world.create()
        await world.send("shipped", "s")
        await world.send("paid", {"n": 1})
        await trio.sleep(5)
        await world.send("paid", {"n": 2})
        status = await world.settled()
        with pytest.raises(WorkflowError, match="complete already"):
            await world.send("paid", {"n": 3})
    assert status.output == [{"n": 1}, {"n": 2}, "s"]


async def test_wait_times_out_with_an_error_that_can_be_caught(autojump_clock) -> None:
    class Flow(WorkflowEntrypoint):
        async def run(self, event, step):
            try:
                await step.wait_for_event("never", "paid", timeout="1 hour")
            except Exception as error:
                return [error.name, error.message]

    async with open_world(Flow, idle_ms=1000) as world:
        start = trio.current_time()
        await world.create()
        status = await world.settled()
        assert 3600 <= trio.current_time() - start < 3700
    assert status.output == ["WorkflowTimeoutError", "Execution timed out after 3600000ms"]


async def test_skipped_step_does_not_run_and_is_shown(autojump_clock) -> None:
    bodies = []

    class Flow(WorkflowEntrypoint):
        async def run(self, event, step):
            refused = await step.do("check", lambda: True)
            answer = await step.do("ask", lambda: bodies.append("ask"), when=not refused)
            note = await step.do("refuse", lambda: "no", when=lambda: refused)
            await step.sleep("rest", 5000)
            return [answer, note]

    async with open_world(Flow, idle_ms=1000) as world:
        await world.create()
        status = await world.settled()
    assert status.output == [None, "no"]
    assert bodies == []
    assert [step.state for step in world.describe().steps] == ["succeeded", "skipped", "succeeded", "succeeded"]


async def test_condition_that_changes_at_replay_stops_the_instance(autojump_clock) -> None:
    flips = [False, True]

    class Flow(WorkflowEntrypoint):
        async def run(self, event, step):
            await step.do("maybe", lambda: None, when=flips.pop(0))
            await step.sleep("rest", "1 hour")

    async with open_world(Flow, idle_ms=1000) as world:
        await world.create()
        status = await world.settled("one", "paused")
    assert status.error.name == "NondeterminismError"
    assert "maybe-1" in status.error.message
    assert "its condition was false, so it was skipped, and is true now" in status.error.message


async def test_unserialisable_result_ends_the_instance_and_a_large_one_the_step(autojump_clock) -> None:
    class Flow(WorkflowEntrypoint):
        async def run(self, event, step):
            if event.payload == "large":
                await step.do("large", lambda: "x" * (1024 * 1024 + 1))
            try:
                await step.do("object", lambda: object())
            except Exception:
                return "caught"

    async with open_world(Flow) as world:
        await world.create("one")
        await world.create("two", params="large")
        first, second = await world.settled("one"), await world.settled("two")
    assert first.error.name == "WorkflowFatalError"
    assert "not serialisable" in first.error.message
    assert second.error == {
        "name": "WorkflowInternalError",
        "message": "Step large-1 output is too large. Maximum allowed size is 1MiB.",
    }


async def test_step_limit_refuses_the_next_step(autojump_clock) -> None:
    class Flow(WorkflowEntrypoint):
        async def run(self, event, step):
            for _ in range(4):
                await step.do("again", lambda: None)

    async with open_world(Flow, steps_max=3) as world:
        await world.create()
        status = await world.settled()
    assert status.error.name == "WorkflowFatalError"
    assert status.error.message.startswith("The limit of 3 steps has been reached.")


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"retry": {}}, "unknown key 'retry'"),
        ({"retries": {"limit": 1}}, "config.retries: delay is missing"),
        ({"retries": {"limit": -1, "delay": 0}}, "config.retries.limit"),
        ({"timeout": 0}, "config.timeout"),
        ({"retries": {"limit": 1, "delay": 0, "backoff": "cubic"}}, "constant, linear, exponential"),
    ],
)
async def test_wrong_config_is_refused_with_what_is_allowed(autojump_clock, config, text) -> None:
    class Flow(WorkflowEntrypoint):
        async def run(self, event, step):
            await step.do("x", config, lambda: None)

    async with open_world(Flow) as world:
        await world.create()
        status = await world.settled()
    assert status.error.name == "WorkflowFatalError"
    assert text in status.error.message


async def test_except_exception_cannot_swallow_a_suspension(autojump_clock) -> None:
    swallowed = []

    class Flow(WorkflowEntrypoint):
        async def run(self, event, step):
            try:
                await step.sleep("night", "1 hour")
            except Exception as error:
                swallowed.append(error)
            return "awake"

    async with open_world(Flow, idle_ms=1000) as world:
        await world.create()
        status = await world.settled()
    assert status.output == "awake"
    assert swallowed == []


async def test_finished_instance_is_deleted_after_its_retention(autojump_clock) -> None:
    class Flow(WorkflowEntrypoint):
        async def run(self, event, step):
            return await step.do("x", lambda: 1)

    async with open_world(Flow, idle_ms=1000) as world:
        await world.create(retention={"successRetention": "1 day"})
        await world.settled()
        await trio.sleep(86_400 - 60)
        assert (await world.status()).status == "complete"
        await trio.sleep(120)
        with pytest.raises(WorkflowError, match="not_found"):
            await world.status()


async def test_create_refuses_a_taken_id_and_a_bad_one(autojump_clock) -> None:
    class Flow(WorkflowEntrypoint):
        async def run(self, event, step):
            await step.sleep("x", 1000)

    async with open_world(Flow) as world:
        await world.create("one")
        with pytest.raises(WorkflowError, match=r"\(instance.already_exists\)"):
            await world.create("one")
        with pytest.raises(WorkflowError, match="Workflow instance has invalid id"):
            await world.create("-bad")

        async def batch():
            made = await world.namespace.create_batch([{"id": "one"}, {"id": "two"}])
            return [instance.id for instance in made]

        assert await world.handler(batch) == ["two"]
