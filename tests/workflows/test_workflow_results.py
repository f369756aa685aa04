"""Whatever a step or `run` returns: kept, or refused in plain sight with the place of what cannot be kept."""

from __future__ import annotations

import array
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from workflow_world import open_world

from edge_runtime.workers.entrypoints import WorkflowEntrypoint
from edge_runtime.workers.response import Response


class Odd:
    def __repr__(self) -> str:
        raise ValueError("not even shown")


class Falsy(dict[str, Any]):
    def __bool__(self) -> bool:
        raise ValueError("no truth")


async def coroutine() -> None:
    return


def circular() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


def deep() -> Any:
    value: Any = 1
    for _ in range(100_000):
        value = [value]
    return value


REFUSED: list[tuple[str, Callable[[], Any]]] = [
    ("object", object),
    ("object whose repr raises", Odd),
    ("class", lambda: Odd),
    ("function", lambda: len),
    ("generator", lambda: (number for number in range(3))),
    ("lock", threading.Lock),
    ("response", lambda: Response("text")),
    ("bytearray", lambda: bytearray(b"x")),
    ("array", lambda: array.array("h", [1])),
    ("complex number", lambda: 1j),
    ("key that is no text", lambda: {("a", 1): 2}),
    ("circle", circular),
    ("very deep", deep),
]
EACH = pytest.mark.parametrize("make", [make for _, make in REFUSED], ids=[name for name, _ in REFUSED])


@EACH
@pytest.mark.parametrize("blocking", [False, True], ids=["async", "blocking"])
async def test_result_of_a_step_that_cannot_be_kept_ends_the_instance_and_names_the_place(
    autojump_clock: object, make: Callable[[], Any], blocking: bool
) -> None:
    class Flow(WorkflowEntrypoint):
        async def run(self, event: Any, step: Any) -> Any:
            def body() -> Any:
                return {"items": [1, (2, {"odd": make()})]}

            async def async_body() -> Any:
                return body()

            try:
                await step.do("odd", body if blocking else async_body)
            except Exception:
                return "caught"

    async with open_world(Flow) as world:
        await world.create()
        ended = await world.settled()
        (step,) = world.describe().steps
    assert (ended.status, ended.error.name) == ("errored", "WorkflowFatalError")
    assert ended.error.message.startswith(
        'The execution of the Workflow instance was terminated, as the step "odd" returned a value which is not seria'
    )
    assert "['items'][1][1]['odd']" in ended.error.message
    assert len(ended.error.message) < 3000
    assert step.state == "cut"


@EACH
async def test_output_of_run_that_cannot_be_kept_ends_the_instance(
    autojump_clock: object, make: Callable[[], Any]
) -> None:
    class Flow(WorkflowEntrypoint):
        async def run(self, event: Any, step: Any) -> Any:
            await step.do("one", lambda: 1)
            return {"odd": make()}

    async with open_world(Flow) as world:
        await world.create()
        ended = await world.settled()
    assert ended.status == "errored"
    assert ended.error.name in ("TypeError", "ValueError", "DataCloneError")
    assert "The value in question is at ['odd']" in ended.error.message


async def test_coroutine_as_a_result_is_awaited_and_inside_of_one_refused(autojump_clock: object) -> None:
    made: list[Any] = []

    class Flow(WorkflowEntrypoint):
        async def run(self, event: Any, step: Any) -> Any:
            assert await step.do("awaited", lambda: coroutine()) is None
            made.append(coroutine())
            await step.do("inside", lambda: [made[0]])

    async with open_world(Flow) as world:
        await world.create()
        ended = await world.settled()
        assert "[0]" in ended.error.message
    made[0].close()


async def test_what_can_be_kept_is_the_same_at_first_and_at_replay(autojump_clock: object) -> None:
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    values = {
        "none": None,
        "large": 2**63,
        "text": "grüße \0",
        "list": [1, [2.5, True]],
        "empty": {},
        "when": now,
        "name of a file": "\udce9",
        "raw": b"\0\xff",
        "falsy": Falsy(a=1),
    }
    seen: list[Any] = []

    class Flow(WorkflowEntrypoint):
        async def run(self, event: Any, step: Any) -> Any:
            kept = await step.do("keep", lambda: values)
            seen.append({name: bytes(kept[name]) if name == "raw" else kept[name] for name in values})
            await step.sleep("nap", "1 hour")
            return None

    async with open_world(Flow, idle_ms=1000) as world:
        await world.create()
        assert (await world.settled()).status == "complete"
    assert len(seen) == 2
    assert seen[0] == seen[1]
    assert {name: seen[0][name] for name in values if name != "when"} == {
        name: value for name, value in values.items() if name != "when"
    }


@pytest.mark.parametrize("size", [1024 * 1024 - 100, 1024 * 1024 + 1])
async def test_result_as_large_as_allowed_is_kept_and_a_larger_one_fails_the_step_which_can_be_caught(
    autojump_clock: object, size: int
) -> None:
    ran: list[int] = []

    class Flow(WorkflowEntrypoint):
        async def run(self, event: Any, step: Any) -> Any:
            try:
                return len(await step.do("large", lambda: ran.append(1) or "x" * size))  # type: ignore[func-returns-value]
            except Exception as error:
                return str(error)

    async with open_world(Flow) as world:
        await world.create()
        output = (await world.settled()).output
    if size < 1024 * 1024:
        assert output == size
    else:
        assert "Step large-1 output is too large. Maximum allowed size is 1MiB." in output
    assert ran == [1]
