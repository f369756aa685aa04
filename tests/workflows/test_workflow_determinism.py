"""What scripts may not do the same way twice: recorded values, code that drifts, errors and results of every kind."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
import trio
import trio.testing
from workflow_world import WORKER, WORKFLOW, open_world

from bindings.workflows import KIND
from bindings.workflows.kind import WorkflowSpec
from edge_runtime.config.model import Binding
from edge_runtime.testing.surroundings import JumpingClock
from edge_runtime.workers.entrypoints import WorkflowEntrypoint
from edge_runtime.workflows.script.errors import retry_after_ms
from edge_runtime.workflows.stored import instances


async def test_time_and_randomness_are_the_same_at_every_replay(autojump_clock: object) -> None:
    seen: list[Any] = []

    class Flow(WorkflowEntrypoint):
        async def run(self, event: Any, step: Any) -> Any:
            seen.append([await step.now(), await step.random(), await step.uuid4(), await step.uuid4()])
            await step.sleep("rest", "1 hour")
            return str(seen[-1][2])

    async with open_world(Flow, idle_ms=1000) as world:
        await world.create()
        output = (await world.settled()).output
    assert len(seen) == 2
    assert seen[0] == seen[1]
    now, random, first, second = seen[0]
    assert now.year == 2023
    assert 0 <= random < 1
    assert isinstance(first, UUID)
    assert first != second
    assert output == str(first)


class Before(WorkflowEntrypoint):
    async def run(self, event: Any, step: Any) -> Any:
        first = await step.do("first", lambda: 1)
        await step.sleep("rest", "1 hour")
        return first


class Drifted(WorkflowEntrypoint):
    async def run(self, event: Any, step: Any) -> Any:
        first = await step.do("first", lambda: 1)
        await step.sleep("rest", "2 hours")
        return first


class Mended(WorkflowEntrypoint):
    async def run(self, event: Any, step: Any) -> Any:
        first = await step.do("first", lambda: 1)
        await step.sleep("rest", "1 hour")
        return await step.do("more", lambda: first + 1)


async def resume_at_boot(world: Any, version: str) -> None:
    runtime: Any = SimpleNamespace(
        worker=SimpleNamespace(name=WORKER, address=WORKER, pinned=None),
        store=world.store,
        actors=world.host,
        clock=world.clock,
        version=version,
    )
    binding = Binding("workflows", "FLOW", WorkflowSpec(WORKER, WORKFLOW, "Flow", 100))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(KIND.serve, [binding], runtime)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def test_drifted_instance_is_stopped_in_plain_sight_and_goes_on_with_code_that_fits(
    autojump_clock: object,
) -> None:
    async with open_world(Before) as world:
        await world.create()
        await world.settled("one", "waiting")
    async with open_world(Drifted, world.store.crash(), clock=JumpingClock(3_600_000), version="v2") as world:
        status = await world.settled("one", "paused")
        assert status.error.name == "NondeterminismError"
        assert "step rest-1 (entry 4): its argument was 3600000 ms and is 7200000 ms now" in status.error.message
        await resume_at_boot(world, "v2")
        await trio.sleep(100)
        assert (await world.status()).status == "paused"
    async with open_world(Mended, world.store.crash(), clock=JumpingClock(3_700_000), version="v3") as world:
        await resume_at_boot(world, "v3")
        status = await world.settled()
    assert status == {"status": "complete", "output": 2, "error": None}
    with world.store.snapshot() as snapshot:
        record = instances.read(snapshot, instances.address_of(WORKER, WORKFLOW, "one"))
    assert record is not None
    assert record.stopped_version is None


async def test_lenient_workflow_follows_drift_and_shows_it(autojump_clock: object) -> None:
    async with open_world(Before) as world:
        await world.create()
        await world.settled("one", "waiting")
    async with open_world(Drifted, world.store.crash(), clock=JumpingClock(3_600_000), strict=False) as world:
        assert (await world.settled()).output == 1
        assert world.describe().steps[1].drift == [
            "its argument was 3600000 ms and is 7200000 ms now; what is recorded stays in force"
        ]


class Odd(Exception):
    def __init__(self) -> None:
        super().__init__("odd \udce9", trio.Event())
        self.retry_after = "0.5"

    def __reduce__(self) -> Any:
        raise TypeError("cannot be pickled")


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (SystemExit(3), "SystemExit"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (GeneratorExit(), "GeneratorExit"),
        (StopIteration(), "StopIteration"),
        (BaseExceptionGroup("all", [SystemExit(1), ValueError("x")]), "BaseExceptionGroup"),
        (ExceptionGroup("all", [ValueError("x")]), "ExceptionGroup"),
        (RecursionError("deep"), "RecursionError"),
        (Odd(), "Odd"),
    ],
)
@pytest.mark.parametrize("blocking", [False, True])
async def test_step_may_raise_anything(autojump_clock: object, error: BaseException, name: str, blocking: bool) -> None:
    class Flow(WorkflowEntrypoint):
        async def run(self, event: Any, step: Any) -> Any:
            def body() -> None:
                raise error

            async def async_body() -> None:
                raise error

            config = {"retries": {"limit": 1, "delay": 10}}
            await step.do("raise", config, body if blocking else async_body)

    async with open_world(Flow) as world:
        await world.create()
        status = await world.settled()
        attempts = world.describe().steps[0].attempts
    assert status.status == "errored"
    assert len(attempts) == 2
    assert all(attempt.error is not None for attempt in attempts)
    if name != "StopIteration":
        assert attempts[0].error is not None
        assert attempts[0].error.name == name


@pytest.mark.parametrize("value", [SystemExit(2), BaseExceptionGroup("all", [KeyboardInterrupt()])])
async def test_run_may_raise_anything(autojump_clock: object, value: BaseException) -> None:
    class Flow(WorkflowEntrypoint):
        async def run(self, event: Any, step: Any) -> Any:
            await step.do("first", lambda: 1)
            raise value

    async with open_world(Flow) as world:
        await world.create()
        assert (await world.settled()).status == "errored"


async def test_result_that_cannot_be_stored_names_its_place(autojump_clock: object) -> None:
    class Flow(WorkflowEntrypoint):
        async def run(self, event: Any, step: Any) -> Any:
            await step.do("odd", lambda: {"a": [1, {"b": object()}]})

    async with open_world(Flow) as world:
        await world.create()
        status = await world.settled()
    assert status.status == "errored"
    assert "not serialisable" in status.error.message
    assert "object" in status.error.message
    assert "['a'][1]['b']" in status.error.message


async def test_retry_after_of_an_error_is_waited_for(autojump_clock: object) -> None:
    begun: list[float] = []

    class Busy(Exception):
        retry_after = 90

    class Flow(WorkflowEntrypoint):
        async def run(self, event: Any, step: Any) -> Any:
            async def body() -> None:
                begun.append(trio.current_time())
                if len(begun) == 1:
                    raise Busy("later")

            await step.do("busy", body)

    async with open_world(Flow) as world:
        await world.create()
        await world.settled()
    assert begun[1] - begun[0] == pytest.approx(90, abs=0.1)


@pytest.mark.parametrize(
    ("given", "after_ms"),
    [
        (90, 90_000),
        (1.0005, 1001),
        ("2", 2000),
        (timedelta(minutes=1), 60_000),
        (0, 0),
        (-1, None),
        (float("inf"), None),
        (float("nan"), None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
        (None, None),
        ([], None),
    ],
)
def test_retry_after_is_seconds_in_the_forms_that_sdks_have_and_left_aside_otherwise(
    given: object, after_ms: int | None
) -> None:
    error = OSError("busy")
    error.retry_after = given  # type: ignore[attr-defined]
    assert retry_after_ms(error) == after_ms


async def test_step_that_never_returns_is_cancelled_and_fails(autojump_clock: object) -> None:
    cancelled: list[int] = []

    class Flow(WorkflowEntrypoint):
        async def run(self, event: Any, step: Any) -> Any:
            async def body(ctx: Any) -> None:
                try:
                    await trio.sleep_forever()
                finally:
                    cancelled.append(ctx.attempt)

            await step.do("endless", {"retries": {"limit": 2, "delay": 0}, "timeout": "5 seconds"}, body)

    async with open_world(Flow) as world:
        await world.create()
        status = await world.settled()
    assert status.error.name == "WorkflowTimeoutError"
    assert cancelled == [1, 2, 3]
