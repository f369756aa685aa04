"""The forms of `step.do`, dependencies and concurrency, for scripts of both flavours; Cloudflare's DAG example."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.lowlevel
from workflow_world import open_world

from edge_runtime.isolate.asyncio_flavour import open_asyncio_flavour
from edge_runtime.isolate.trio_flavour import TrioFlavour
from edge_runtime.seams import Flavour
from edge_runtime.workers.entrypoints import WorkflowEntrypoint


@asynccontextmanager
async def opened(name: str) -> AsyncIterator[Flavour]:
    if name == "trio":
        yield TrioFlavour()
        return
    async with open_asyncio_flavour() as flavour:
        yield flavour


async def pause(name: str, seconds: float = 0.001) -> None:
    if name == "trio":
        await trio.sleep(seconds)
    else:
        await asyncio.sleep(seconds)


async def run_flow(flavour: str, flow: Any, *, implicit: bool = True) -> Any:
    """The output of `flow(event, step)`, which is executed again from its journal in a second process."""
    outputs = []

    class Flow(WorkflowEntrypoint):
        async def run(self, event: Any, step: Any) -> Any:
            output = await flow(event, step)
            outputs.append(output)
            await step.wait_for_event("go on", "go")
            return output

    async with opened(flavour) as script:
        async with open_world(Flow, flavour=script, implicit=implicit) as world:
            await world.create()
            before = await world.settled("one", "waiting", "errored")
            assert before.error is None, before.error
            await world.host.release()
        async with open_world(Flow, world.store.crash(), flavour=script, implicit=implicit) as world:
            await world.send("go")
            status = await world.settled()
    assert status.error is None, status.error
    assert outputs == [status.output] * 2
    return status.output


both = pytest.mark.parametrize("flavour", ["trio", "asyncio"])


@both
async def test_implicit_dependencies_run_once_and_pass_results(flavour: str) -> None:
    begun: list[str] = []

    async def flow(event: Any, step: Any) -> Any:
        @step.do()
        async def base() -> int:
            begun.append("base")
            await pause(flavour)
            return 10

        @step.do()
        async def left(base: int) -> int:
            begun.append("left")
            return base + 1

        @step.do()
        def right(base: int, ctx: Any) -> list[Any]:
            begun.append("right")
            return [base + 2, ctx["step"]["name"], ctx.attempt]

        @step.do("both", concurrent=True)
        async def both(left: int, right: list[Any]) -> list[Any]:
            return [left, *right]

        return await both()

    assert await run_flow(flavour, flow) == [11, 12, "right", 1]
    assert sorted(begun) == ["base", "left", "right"]


@both
async def test_legacy_dependencies_are_passed_in_order(flavour: str) -> None:
    async def flow(event: Any, step: Any) -> Any:
        @step.do("first one")
        async def first() -> str:
            await pause(flavour)
            return "1"

        @step.do("second one", None, False, {"retries": {"limit": 0, "delay": 0}})
        async def second() -> str:
            return "2"

        @step.do("joined", [second, first], concurrent=True)
        async def joined(a: str, ctx: Any, b: str) -> str:
            return a + b + str(ctx.step.count)

        return [await joined(), await first()]

    assert await run_flow(flavour, flow, implicit=False) == ["211", "1"]


@both
async def test_wrong_dependencies_are_refused_as_by_cloudflare(flavour: str) -> None:
    async def implicit(event: Any, step: Any) -> Any:
        @step.do()
        async def lonely(nobody: int) -> None: ...

        texts = []
        for attempt in (lonely, lambda: step.do("x", depends=[])):
            try:
                await attempt()
            except TypeError as error:
                texts.append(str(error))
        return texts

    async def legacy(event: Any, step: Any) -> Any:
        @step.do("none")
        async def none(a: int) -> None: ...

        @step.do("few", depends=[])
        async def few(a: int) -> None: ...

        texts = []
        for attempt in (none, few):
            try:
                await attempt()
            except TypeError as error:
                texts.append(str(error))
        return texts

    assert await run_flow(flavour, implicit) == [
        "Received unexpected parameter nobody",
        "WorkflowStep.do() got an unexpected keyword argument 'depends'",
    ]
    assert await run_flow(flavour, legacy, implicit=False) == [
        "Step has 1 non-ctx parameter(s) but no 'depends' list provided",
        "Step declares 1 non-ctx parameter(s) but 'depends' has 0 item(s)",
    ]


@both
async def test_steps_that_depend_on_each_other_are_refused(flavour: str) -> None:
    async def flow(event: Any, step: Any) -> Any:
        @step.do()
        async def hen(egg: int) -> None: ...

        @step.do()
        async def egg(hen: int) -> None: ...

        try:
            await hen()
        except TypeError as error:
            return str(error)

    assert await run_flow(flavour, flow) == "step 'hen' depends on itself: hen -> egg -> hen"


@both
async def test_plain_calls_take_async_sync_and_lambda_functions(flavour: str) -> None:
    async def flow(event: Any, step: Any) -> Any:
        async def fetch() -> str:
            await pause(flavour)
            return "async"

        def compute(ctx: Any) -> str:
            return f"sync {ctx.config.retries.limit}"

        return [
            await step.do("a", fetch),
            await step.do("b", {"retries": {"limit": 1, "delay": "1 second"}}, compute),
            await step.do("c", lambda: fetch(), config={"timeout": "1 minute"}),
            await step.do("d", fetch, when=False),
        ]

    assert await run_flow(flavour, flow) == ["async", "sync 1", "async", None]


@both
async def test_same_step_called_twice_is_two_occurrences(flavour: str) -> None:
    async def flow(event: Any, step: Any) -> Any:
        @step.do()
        async def count(ctx: Any) -> int:
            return ctx.step.count

        return [await count(), await count(), await step.do("count", lambda ctx: ctx["step"]["count"])]

    assert await run_flow(flavour, flow) == [1, 2, 3]


async def test_steps_in_a_nursery_and_in_gather_run_at_the_same_time() -> None:
    async def in_nursery(event: Any, step: Any) -> Any:
        results = {}
        meet = {"a": trio.Event(), "b": trio.Event()}

        async def body(name: str, other: str) -> str:
            meet[name].set()
            await meet[other].wait()
            return name

        async def one(name: str, other: str) -> None:
            results[name] = await step.do(name, lambda: body(name, other))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one, "a", "b")
            nursery.start_soon(one, "b", "a")
        return dict(sorted(results.items()))

    async def in_gather(event: Any, step: Any) -> Any:
        meet = {"a": asyncio.Event(), "b": asyncio.Event()}

        async def body(name: str, other: str) -> str:
            meet[name].set()
            await meet[other].wait()
            return name

        @step.do("b")
        async def b() -> str:
            return await body("b", "a")

        return await asyncio.gather(step.do("a", lambda: body("a", "b")), b())

    assert await run_flow("trio", in_nursery) == {"a": "a", "b": "b"}
    assert await run_flow("asyncio", in_gather) == ["a", "b"]


@pytest.mark.parametrize("round", range(5))
async def test_steps_of_one_name_in_tasks_of_a_nursery_get_their_own_results_at_replay(round: int) -> None:
    """Trio runs the tasks in another order each time."""

    async def flow(event: Any, step: Any) -> Any:
        results = {}

        @step.do()
        async def base() -> int:
            await trio.sleep(0.001)
            return 100

        async def one(item: int) -> None:
            await trio.lowlevel.checkpoint()
            first = await step.do("square", lambda item=item: item * item)
            results[str(item)] = await step.do("add", lambda: first + item)
            if item == 3:
                async with trio.open_nursery() as inner:
                    inner.start_soon(one, 7)

        @step.do()
        async def needs(base: int) -> int:
            return base + 1

        async with trio.open_nursery() as nursery:
            for item in range(4):
                nursery.start_soon(one, item)
            nursery.start_soon(needs)
        results["needs"] = await needs()
        return dict(sorted(results.items()))

    expected = {"0": 0, "1": 2, "2": 6, "3": 12, "7": 56, "needs": 101}
    assert await run_flow("trio", flow) == expected


async def test_race_has_the_same_winner_at_replay() -> None:
    """Both steps are recorded when `run` is executed again, and only the first to end may look ended first."""
    winners = []

    async def flow(event: Any, step: Any) -> Any:
        won = asyncio.Event()

        async def late() -> str:
            await won.wait()
            return "slow"

        async def soon() -> str:
            await asyncio.sleep(0)
            return "fast"

        slow = asyncio.create_task(step.do("slow", late))
        fast = asyncio.create_task(step.do("fast", soon))
        done, _ = await asyncio.wait([slow, fast], return_when=asyncio.FIRST_COMPLETED)
        winners.append(sorted(task.result() for task in done))
        won.set()
        await asyncio.gather(slow, fast)
        return winners[-1]

    assert await run_flow("asyncio", flow) == ["fast"]
    assert winners == [["fast"], ["fast"]]


@both
async def test_failed_dependency_fails_the_step_that_needs_it(flavour: str) -> None:
    async def flow(event: Any, step: Any) -> Any:
        @step.do(config={"retries": {"limit": 0, "delay": 0}})
        async def broken() -> None:
            raise ValueError("no stock")

        @step.do()
        async def good() -> int:
            return 1

        @step.do(concurrent=True)
        async def needs(good: int, broken: int) -> None: ...

        try:
            await needs()
        except ValueError as error:
            return str(error)

    assert await run_flow(flavour, flow) == "no stock"


EXAMPLE = """
import asyncio
import random

from workers import WorkflowEntrypoint


class DAG(WorkflowEntrypoint):
    async def run(self, event, step):
        @step.do("dependency 1")
        async def short():
            await asyncio.sleep(random.randint(1, 10))

        @step.do("dependency 2")
        async def long():
            await asyncio.sleep(random.randint(5, 15))

        @step.do("final step", depends=[short, long], concurrent=True)
        async def last(res1=None, res2=None):
            print("done")

        await last()
"""


async def test_dag_of_decorated_steps_as_in_cloudflares_example(monkeypatch: pytest.MonkeyPatch) -> None:
    from edge_runtime.compat.install import install_modules

    install_modules()
    scope: dict[str, Any] = {}
    exec(compile(EXAMPLE, str(Path("entry.py")), "exec"), scope)
    monkeypatch.setattr(random, "randint", lambda low, high: low / 1000)
    async with open_asyncio_flavour() as flavour, open_world(scope["DAG"], flavour=flavour, implicit=False) as world:
        await world.create()
        status = await world.settled()
        steps = world.describe().steps
    assert status == {"status": "complete", "output": None, "error": None}
    assert [(step.name, step.state) for step in steps] == [
        ("dependency 1-1", "succeeded"),
        ("dependency 2-1", "succeeded"),
        ("final step-1", "succeeded"),
    ]
