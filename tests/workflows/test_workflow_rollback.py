"""Rollback handlers: when they run, in which order, with what, and what becomes of them in a crash.

The first half are the behaviours that the public tests of cloudflare/workers-sdk, packages/workflows-shared, assert.
"""

from __future__ import annotations

from typing import Any

import pytest
import trio
from workflow_world import World, flow, open_world

from edge_runtime.isolate.trio_flavour import TrioFlavour
from edge_runtime.workflows.core.journal import StepKind

ONCE = {"retries": {"limit": 0, "delay": 0, "backoff": "constant"}}


async def terminate(world: World, id: str = "one") -> None:
    async def fetch() -> None:
        await (await world.namespace.get(id)).terminate({"rollback": True})

    await world.handler(fetch)


def undone(world: World) -> list[tuple[str, str]]:
    return [(step.key.name, step.state) for step in world.describe().steps if step.kind is StepKind.ROLLBACK]


def moments(world: World) -> list[str]:
    return [moment.text for moment in world.describe().moments]


class Undos:
    """Rollback handlers that keep what they were called with."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def __call__(self) -> dict[str, Any]:
        async def rollback(given: Any) -> None:
            self.calls.append(given)

        return {"rollback": rollback}

    @property
    def names(self) -> list[str]:
        return [given.stepName for given in self.calls]


async def one() -> int:
    return 1


async def test_failure_undoes_steps_in_reverse_order(autojump_clock: object) -> None:
    undos = Undos()

    async def run(event: Any, step: Any) -> None:
        await step.do("step-1", one, undos())
        await step.do("plain", one)
        await step.do("step-2", one, undos())
        await step.do("step-3", ONCE, one, undos())
        raise ValueError("boom")

    async with open_world(flow(run)) as world:
        await world.create()
        ended = await world.settled()
        assert (ended.status, ended.error.name, ended.error.message) == ("errored", "ValueError", "boom")
        assert undos.names == ["step-3-1", "step-2-1", "step-1-1"]
        assert undone(world) == [("step-3", "succeeded"), ("step-2", "succeeded"), ("step-1", "succeeded")]
        assert moments(world)[1:] == ["rollback complete: 3 of 3 steps undone", "errored"]


async def test_parallel_steps_are_undone_in_reverse_order_of_their_starts(autojump_clock: object) -> None:
    undos = Undos()

    async def run(event: Any, step: Any) -> None:
        async def slow() -> int:
            await trio.sleep(1)
            return 1

        pair = [step.do("first", slow, undos()), step.do("second", one, undos())]
        for promise in pair:
            await promise
        raise ValueError("boom")

    async with open_world(flow(run)) as world:
        await world.create()
        await world.settled()
    assert undos.names == ["second-1", "first-1"]


async def test_handler_is_given_the_step_its_output_and_the_error(autojump_clock: object) -> None:
    given: list[Any] = []

    async def run(event: Any, step: Any) -> None:
        async def fails() -> None:
            raise ValueError("step-boom")

        async def named(output: Any, error: Exception, ctx: Any) -> None:
            given.append((output, type(error), str(error), ctx.step, ctx.attempt, ctx.config.retries.limit))

        @step.do("declared", rollback=named, config=ONCE)
        async def declared() -> str:
            return "out"

        await declared()
        await step.do("failed", ONCE, fails, {"rollback": lambda given_all: given.append(given_all)})

    async with open_world(flow(run)) as world:
        await world.create()
        await world.settled()
    failed, declared = given
    assert (failed.output, str(failed.error), failed.stepName) == (None, "step-boom", "failed-1")
    assert declared == ("out", ValueError, "step-boom", {"name": "declared", "count": 1}, 1, 0)


async def test_rollback_config_gives_retries_and_a_timeout(autojump_clock: object) -> None:
    attempts: list[str] = []

    async def run(event: Any, step: Any) -> None:
        async def flaky() -> None:
            attempts.append("flaky")
            if len(attempts) < 3:
                raise OSError("busy")

        async def hangs() -> None:
            attempts.append("hangs")
            if attempts.count("hangs") == 1:
                await trio.sleep_forever()

        await step.do("a", one, rollback=hangs, rollback_config={"timeout": 1000})
        config = {"retries": {"limit": 2, "delay": "1 hour", "backoff": "constant"}, "timeout": "30 seconds"}
        await step.do("b", one, {"rollback": flaky, "rollbackConfig": config})
        raise ValueError("boom")

    async with open_world(flow(run), idle_ms=1000) as world:
        start = trio.current_time()
        await world.create()
        await world.settled()
        assert 7200 < trio.current_time() - start < 7300
        assert attempts == ["flaky", "flaky", "flaky", "hangs", "hangs"]
        last = world.describe().steps[-1]
        assert [attempt.state for attempt in last.attempts] == ["failed", "succeeded"]


async def test_first_failing_rollback_ends_the_chain(autojump_clock: object) -> None:
    undos = Undos()

    async def run(event: Any, step: Any) -> None:
        async def fails() -> None:
            raise ValueError("cannot undo")

        await step.do("a", one, undos())
        await step.do("b", one, rollback=fails, rollback_config=ONCE)
        await step.do("c", one, undos())
        raise ValueError("boom")

    async with open_world(flow(run)) as world:
        await world.create()
        assert (await world.settled()).error.message == "boom"
        assert undone(world) == [("c", "succeeded"), ("b", "failed")]
        assert moments(world)[-2:] == ["rollback failed: 1 of 3 steps undone", "errored"]
    assert undos.names == ["c-1"]


async def test_success_undoes_nothing_nor_does_a_caught_error(autojump_clock: object) -> None:
    undos = Undos()

    async def run(event: Any, step: Any) -> str:
        async def fails() -> None:
            raise ValueError("caught")

        try:
            await step.do("a", ONCE, fails, undos())
        except ValueError:
            return "fine"
        return "not reached"

    async with open_world(flow(run)) as world:
        await world.create()
        assert (await world.settled()).output == "fine"
    assert undos.calls == []


async def test_result_that_cannot_be_stored_ends_the_instance_without_rollback(autojump_clock: object) -> None:
    undos = Undos()

    async def run(event: Any, step: Any) -> None:
        await step.do("a", one, undos())

        async def unstorable() -> object:
            return object()

        await step.do("b", unstorable, undos())

    async with open_world(flow(run)) as world:
        await world.create()
        assert (await world.settled()).error.name == "WorkflowFatalError"
    assert undos.calls == []


@pytest.mark.parametrize(
    "state", ["running", "waiting", "evicted", "paused", "new process", "new process, running", "new process, paused"]
)
async def test_terminate_with_rollback_undoes_what_has_begun(autojump_clock: object, state: str) -> None:
    undos, begun = Undos(), []

    async def run(event: Any, step: Any) -> None:
        await step.do("done", one, undos())
        try:
            await step.do("failed", ONCE, lambda: 1 / 0, undos())
        except ZeroDivisionError:
            begun.append("caught")

        async def work() -> None:
            begun.append("work")
            if state.endswith("running"):
                await trio.sleep_forever()

        await step.do("cut", work, undos())
        await step.sleep("long", "1 day")
        await step.do("never", work, undos())

    async with open_world(flow(run), idle_ms=1000) as world:
        await world.create()
        await trio.sleep(10 if state == "evicted" else 0.5)
        if "paused" in state:

            async def fetch() -> None:
                await (await world.namespace.get("one")).pause()

            await world.handler(fetch)
        store = world.store
        if not state.startswith("new process"):
            await terminate(world)
            assert (await world.settled()).status == "terminated"
    if state.startswith("new process"):
        store = store.crash()
        async with open_world(flow(run), store) as world:
            await terminate(world)
            assert (await world.settled()).status == "terminated"
    assert undos.names == ["cut-1", "failed-1", "done-1"]
    assert [given.output for given in undos.calls] == [None, None, 1]
    assert {(given.error.name, str(given.error.message)) for given in undos.calls} == {
        ("Terminated", "Instance terminated during rollback")
    }
    assert begun.count("work") == 1


async def test_handler_is_not_shown_a_delay_function_not_even_after_a_replay(autojump_clock: object) -> None:
    shown: list[Any] = []

    async def run(event: Any, step: Any) -> None:
        config = {"retries": {"limit": 0, "delay": lambda given: 1000, "backoff": "constant"}}
        try:
            await step.do("failed", config, lambda: 1 / 0, {"rollback": lambda given: shown.append(given.ctx.config)})
        except ZeroDivisionError:
            await step.sleep("long", "1 day")

    async with open_world(flow(run)) as world:
        await world.create()
        await world.settled("one", "waiting")
    async with open_world(flow(run), world.store.crash()) as world:
        await terminate(world)
        assert (await world.settled()).status == "terminated"
        assert undone(world) == [("failed", "succeeded")]
    assert [config.retries for config in shown] == [{"limit": 0, "backoff": "constant"}]


async def test_handler_that_a_changed_script_does_not_name_ends_the_rollback(autojump_clock: object) -> None:
    undos = Undos()

    async def run(event: Any, step: Any) -> None:
        await step.do("setup", one, undos())
        await step.sleep("long", "1 day")

    async def other(event: Any, step: Any) -> None:
        return

    async with open_world(flow(run)) as world:
        await world.create()
        await world.settled("one", "waiting")
    async with open_world(flow(other), world.store.crash()) as world:
        await terminate(world)
        assert (await world.settled()).status == "terminated"
        assert undone(world) == [("setup", "failed")]
        assert moments(world)[-2:] == ["rollback failed: 0 of 1 steps undone", "terminated"]


async def test_script_that_takes_its_time_between_steps_still_names_its_handlers(autojump_clock: object) -> None:
    undos = Undos()

    async def run(event: Any, step: Any) -> None:
        await step.do("a", one, undos())
        await trio.sleep(10)
        await step.do("b", one, undos())
        await step.sleep("long", "1 day")

    async with open_world(flow(run)) as world:
        await world.create()
        await world.settled("one", "waiting")
    async with open_world(flow(run), world.store.crash()) as world:
        await terminate(world)
        assert (await world.settled()).status == "terminated"
    assert undos.names == ["b-1", "a-1"]


async def test_handlers_cannot_execute_steps(autojump_clock: object) -> None:
    errors: list[str] = []

    async def run(event: Any, step: Any) -> None:
        async def undo() -> None:
            try:
                await step.do("more", one)
            except Exception as error:
                errors.append(str(error))

        await step.do("a", one, rollback=undo)
        raise ValueError("boom")

    async with open_world(flow(run)) as world:
        await world.create()
        await world.settled()
    assert errors == ["WorkflowFatalError: Cannot execute steps during rollback phase"]


async def test_terminate_during_a_rollback_ends_it(autojump_clock: object) -> None:
    async def run(event: Any, step: Any) -> None:
        async def hangs() -> None:
            await trio.sleep_forever()

        await step.do("a", one, rollback=hangs)
        raise ValueError("boom")

    async with open_world(flow(run)) as world:
        await world.create()
        await trio.sleep(1)
        assert (await world.status()).status == "running"

        async def fetch() -> None:
            await (await world.namespace.get("one")).terminate()

        await world.handler(fetch)
        assert (await world.status()).status == "terminated"


async def test_handlers_are_rebuilt_by_replay_after_a_crash_and_steps_are_not_begun(autojump_clock: object) -> None:
    undos, begun, stuck = Undos(), [], [True]

    async def run(event: Any, step: Any) -> None:
        async def sticks() -> None:
            begun.append("undo b")
            if stuck[0]:
                await trio.sleep_forever()

        await step.do("a", one, undos())
        await step.do("b", one, rollback=sticks, rollback_config={"retries": {"limit": 1, "delay": 0}})
        await step.do("c", one, undos())
        begun.append("run")
        raise ValueError("boom")

    async with open_world(flow(run)) as world:
        await world.create()
        await trio.sleep(1)
    stuck[0] = False
    async with open_world(flow(run), world.store.crash()) as world:
        ended = await world.settled()
        assert (ended.status, ended.error.message) == ("errored", "boom")
    assert undos.names == ["c-1", "a-1"]
    assert begun == ["run", "undo b", "run", "undo b"] or begun == ["run", "undo b", "undo b"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"rollback": 5}, 'Rollback for "a" must be a function'),
        ({"rollback": one, "rollbackConfig": {"nonsense": 1}}, 'Rollback config for "a" is in a invalid format'),
        ([1], 'Rollback options for "a" must be an object'),
    ],
)
async def test_wrong_rollback_options_are_refused(autojump_clock: object, options: Any, text: str) -> None:
    async def run(event: Any, step: Any) -> None:
        await step.do("a", ONCE, one, options)

    async with open_world(flow(run), flavour=TrioFlavour()) as world:
        await world.create()
        ended = await world.settled()
    assert ended.error.name == "WorkflowFatalError"
    assert text in ended.error.message


async def test_restart_during_a_rollback_supersedes_it(autojump_clock: object) -> None:
    runs: list[int] = []

    async def run(event: Any, step: Any) -> str:
        async def hangs() -> None:
            await trio.sleep_forever()

        runs.append(1)
        await step.do("a", one, rollback=hangs)
        if len(runs) == 1:
            raise ValueError("boom")
        return "second"

    async with open_world(flow(run)) as world:
        await world.create()
        await trio.sleep(1)

        async def fetch() -> None:
            await (await world.namespace.get("one")).restart()

        await world.handler(fetch)
        assert (await world.settled()).output == "second"
