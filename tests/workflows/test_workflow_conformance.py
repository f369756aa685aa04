"""The cases of the AWS durable execution conformance suite for steps (1-n) and waits (2-n), in our API.

Source: aws/aws-durable-execution-conformance-tests, test-requirements/step and /wait. What an instance records is
rendered as Lambda shows a history: events numbered from 2 on, an InvocationCompleted wherever the instance rests or
ends. Each case runs undisturbed, and again with the process killed at every rest; both must give the same.

Not here, because it is not offered: serialisation of one's own (1-6). Where the suite logs by the step's context, a
step prints (1-7). Elsewhere the same case has our defaults: retries of 1, 2, 4 ... s without jitter (1-13), errors that
are not retried because they are a NonRetryableError rather than by a strategy (1-16), and at most once means never a
second time (1-17), while a step that is cut short by default counts that as an attempt, and the next begins at once
(1-18).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio
from seam_fakes import CountingRandomness
from workflow_world import WORKER, WORKFLOW, World, open_world

from edge_runtime.store.memory_store import MemoryStore
from edge_runtime.testing.surroundings import JumpingClock
from edge_runtime.workers.entrypoints import WorkflowEntrypoint
from edge_runtime.workers.workflows import NonRetryableError
from edge_runtime.workflows.core.journal import (
    AttemptFailed,
    AttemptStarted,
    Entry,
    StepFailed,
    StepKind,
    StepStarted,
    StepSucceeded,
)
from edge_runtime.workflows.stored import blocks
from edge_runtime.workflows.stored.instances import FINAL

NO_RETRY = {"retries": {"limit": 0, "delay": 1}}
SLEEPS = (StepKind.SLEEP, StepKind.SLEEP_UNTIL)
KILLED = "InvocationCompleted Runtime.ExitError"
END = "InvocationCompleted"


class TransientError(NonRetryableError):
    pass


@dataclass
class Case:
    id: str
    run: Callable[..., Awaitable[Any]]
    history: list[str]
    result: Any = None
    status: str = "complete"
    params: Any = None
    bodies: dict[str, int] = field(default_factory=dict)
    """How often the body of each step runs."""


def rendered(entries: list[Entry], kills: set[int]) -> list[str]:
    """`kills`: after which entry a process was killed while something ran."""
    shown: list[str] = []
    kinds: dict[Any, StepStarted] = {}
    attempts: Counter[Any] = Counter()
    before: Entry | None = None
    for entry in entries:
        if before is not None and before.seq in kills:
            shown.append(KILLED)
        elif before is not None and shown and entry.at_ms > before.at_ms:
            shown.append(END)
        before = entry
        match entry:
            case StepStarted():
                kinds[entry.key] = entry
                attempts[entry.key] = 1
                if entry.step in SLEEPS:
                    shown.append(f"WaitStarted {entry.key.name} {((entry.due_ms or 0) - entry.at_ms) // 1000}")
                else:
                    shown.append(f"StepStarted {entry.key.name}")
            case AttemptStarted():
                attempts[entry.key] = entry.attempt
                shown.append(f"StepStarted {entry.key.name}")
            case AttemptFailed():
                delay_s = (entry.retry_at_ms - entry.at_ms) / 1000
                error = entry.error.name
                shown.append(f"StepFailed {entry.key.name} {error} attempt {entry.attempt}, next in {delay_s:g}")
            case StepSucceeded() if kinds[entry.key].step in SLEEPS:
                started = kinds[entry.key]
                shown.append(f"WaitSucceeded {entry.key.name} {((started.due_ms or 0) - started.at_ms) // 1000}")
            case StepSucceeded():
                number = attempts[entry.key]
                shown.append(f"StepSucceeded {entry.key.name}" + (f" attempt {number}" if number > 1 else ""))
            case StepFailed():
                number = attempts[entry.key]
                text = f"StepFailed {entry.key.name} {entry.error.name}"
                shown.append(text + (f" attempt {number}" if number > 1 else ""))
            case _:
                pass
    return [f"{number} {event}" for number, event in enumerate([*shown, END], 2)]


async def greet(step: Any, event: Any, ran: Counter[str]) -> Any:
    async def body() -> str:
        ran["greet"] += 1
        return f"Hello, {event.payload}!"

    return await step.do("greet", body)


async def dependent(step: Any, event: Any, ran: Counter[str]) -> Any:
    async def one() -> str:
        return "first"

    first = await step.do("one", one)
    return await step.do("two", lambda: f"{first}_second")


async def structured(step: Any, event: Any, ran: Counter[str]) -> Any:
    def build() -> Any:
        return {"user": dict(event.payload), "count": len(event.payload["tags"])}

    return await step.do("build", build)


async def nothing(step: Any, event: Any, ran: Counter[str]) -> Any:
    return await step.do("nothing", lambda: None)


async def step_and_wait(step: Any, event: Any, ran: Counter[str]) -> Any:
    def body() -> str:
        ran["compute"] += 1
        return "computed"

    computed = await step.do("compute", body)
    await step.sleep("wait", "2 seconds")
    return computed


async def failed_and_wait(step: Any, event: Any, ran: Counter[str]) -> Any:
    def body() -> None:
        ran["fails"] += 1
        raise ValueError("permanent")

    with suppress(ValueError):
        await step.do("fails", NO_RETRY, body)
    await step.sleep("wait", "1 second")


def unreliable(failures: int, config: Any, error: Callable[[str], Exception] = OSError) -> Any:
    async def run(step: Any, event: Any, ran: Counter[str]) -> Any:
        async def body(ctx: Any) -> str:
            ran["work"] += 1
            if ctx["attempt"] <= failures:
                raise error("not yet")
            return "Operation succeeded"

        return await step.do("work", *config, body)

    return run


def retries(limit: int, delay: Any) -> Any:
    return [{"retries": {"limit": limit, "delay": delay, "backoff": "constant"}}]


async def tripled(given: Any) -> int:
    return 2000 * 3 ** (int(given["ctx"]["attempt"]) - 1)


async def printing(step: Any, event: Any, ran: Counter[str]) -> Any:
    async def greet(ctx: Any) -> str:
        print(f"Greeting step started for: {event.payload}")
        print(f"Greeting step completed with: Hello, {event.payload}!")
        return f"Hello, {event.payload}!"

    greeting = await step.do("greet", greet)
    await step.sleep("rest", "1 second")
    return greeting


async def caught(step: Any, event: Any, ran: Counter[str]) -> Any:
    def fails() -> None:
        raise ValueError("no")

    try:
        await step.do("fails", NO_RETRY, fails)
    except ValueError:
        return await step.do("fallback", lambda: "fallback_result")


def waits(*durations: Any) -> Any:
    async def run(step: Any, event: Any, ran: Counter[str]) -> Any:
        for number, duration in enumerate(durations, 1):
            await step.sleep(f"wait-{number}", duration)
        return {"completedWaits": len(durations)}

    return run


def failed(attempt: int, delay_s: int, error: str = "OSError") -> list[str]:
    return ["StepStarted work", f"StepFailed work {error} attempt {attempt}, next in {delay_s}", END]


WAITED = {"completedWaits": 1}
CASES = [
    Case("1-1, 1-2", greet, ["StepStarted greet", "StepSucceeded greet"], "Hello, World!", params="World"),
    Case(
        "1-3",
        dependent,
        ["StepStarted one", "StepSucceeded one", "StepStarted two", "StepSucceeded two"],
        "first_second",
    ),
    Case(
        "1-4",
        structured,
        ["StepStarted build", "StepSucceeded build"],
        {"user": {"name": "Alice", "tags": ["admin", "active"]}, "count": 2},
        params={"name": "Alice", "tags": ["admin", "active"]},
    ),
    Case("1-5", nothing, ["StepStarted nothing", "StepSucceeded nothing"]),
    Case(
        "1-8, 1-9",
        step_and_wait,
        ["StepStarted compute", "StepSucceeded compute", "WaitStarted wait 2", END, "WaitSucceeded wait 2"],
        "computed",
        bodies={"compute": 1},
    ),
    Case(
        "1-10",
        failed_and_wait,
        ["StepStarted fails", "StepFailed fails ValueError", "WaitStarted wait 1", END, "WaitSucceeded wait 1"],
        bodies={"fails": 1},
    ),
    Case(
        "1-11",
        unreliable(1, retries(3, 1000)),
        [
            *failed(1, 1),
            "StepStarted work",
            "StepSucceeded work attempt 2",
        ],
        "Operation succeeded",
        bodies={"work": 2},
    ),
    Case(
        "1-12",
        unreliable(9, retries(3, 1000)),
        [*failed(1, 1), *failed(2, 1), *failed(3, 1), "StepStarted work", "StepFailed work OSError attempt 4"],
        status="errored",
        bodies={"work": 4},
    ),
    Case(
        "1-13",
        unreliable(2, []),
        [
            *failed(1, 1),
            *failed(2, 2),
            "StepStarted work",
            "StepSucceeded work attempt 3",
        ],
        "Operation succeeded",
        bodies={"work": 3},
    ),
    Case(
        "1-14",
        unreliable(2, retries(4, tripled)),
        [
            *failed(1, 2),
            *failed(2, 6),
            "StepStarted work",
            "StepSucceeded work attempt 3",
        ],
        "Operation succeeded",
        bodies={"work": 3},
    ),
    Case(
        "1-15",
        unreliable(1, retries(3, 1000), TimeoutError),
        [
            *failed(1, 1, "TimeoutError"),
            "StepStarted work",
            "StepSucceeded work attempt 2",
        ],
        "Operation succeeded",
        bodies={"work": 2},
    ),
    Case(
        "1-16",
        unreliable(9, retries(3, 1000), TransientError),
        ["StepStarted work", "StepFailed work TransientError"],
        status="errored",
        bodies={"work": 1},
    ),
    Case(
        "1-19",
        unreliable(9, [NO_RETRY]),
        ["StepStarted work", "StepFailed work OSError"],
        status="errored",
        bodies={"work": 1},
    ),
    Case(
        "1-20",
        caught,
        ["StepStarted fails", "StepFailed fails ValueError", "StepStarted fallback", "StepSucceeded fallback"],
        "fallback_result",
    ),
    Case("2-1, 2-2", waits("2 seconds"), ["WaitStarted wait-1 2", END, "WaitSucceeded wait-1 2"], WAITED),
    Case(
        "2-3",
        waits("2 seconds", 2000),
        ["WaitStarted wait-1 2", END, "WaitSucceeded wait-1 2", "WaitStarted wait-2 2", END, "WaitSucceeded wait-2 2"],
        {"completedWaits": 2},
    ),
    Case("2-4", waits("1 minute"), ["WaitStarted wait-1 60", END, "WaitSucceeded wait-1 60"], WAITED),
    Case("2-5", waits("1 hour"), ["WaitStarted wait-1 3600", END, "WaitSucceeded wait-1 3600"], WAITED),
]


def numbered(events: list[str]) -> list[str]:
    return [f"{number} {event}" for number, event in enumerate([*events, END], 2)]


def flow_of(run: Any, ran: Counter[str]) -> type[WorkflowEntrypoint]:
    class Flow(WorkflowEntrypoint):
        async def run(self, event: Any, step: Any) -> Any:
            return await run(step, event, ran)

    return Flow


def entries_of(world: World) -> list[Entry]:
    with world.store.snapshot() as snapshot:
        return blocks.load(snapshot, WORKER, WORKFLOW, "one", 1).entries


async def lived(case: Case, *, killed_at_rests: bool) -> tuple[list[Entry], Any, Counter[str]]:
    """The journal, the status and the bodies that ran of an instance at its end."""
    ran: Counter[str] = Counter()
    flow, store, random = flow_of(case.run, ran), MemoryStore(), CountingRandomness()
    created = False
    while True:
        async with open_world(flow, store, random=random) as world:
            if not created:
                await world.create(params=case.params)
                created = True
            wanted = [*FINAL, "waiting"] if killed_at_rests else FINAL
            seq, pause_s = len(entries_of(world)), 0.1
            while True:
                status = await world.settled("one", *wanted)
                if status["status"] in FINAL:
                    return entries_of(world), status, ran
                if len(entries_of(world)) > seq:
                    break
                # It rests as it did when the process before was killed.
                await trio.sleep(pause_s)
                pause_s *= 2
            store = world.store.crash()


@pytest.mark.parametrize("killed_at_rests", [False, True], ids=["undisturbed", "killed at rests"])
@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
async def test_history_is_that_of_the_suite(autojump_clock: object, case: Case, killed_at_rests: bool) -> None:
    entries, status, ran = await lived(case, killed_at_rests=killed_at_rests)
    assert rendered(entries, set()) == numbered(case.history)
    assert status["status"] == case.status
    assert status["output"] == case.result
    assert {name: ran[name] for name in case.bodies} == case.bodies


@pytest.mark.parametrize("killed_at_rests", [False, True], ids=["undisturbed", "killed at rests"])
async def test_what_a_step_prints_is_shown_once_and_not_at_its_replay(
    autojump_clock: object, capsys: pytest.CaptureFixture[str], killed_at_rests: bool
) -> None:
    """1-7, with a rest after the step."""
    history = ["StepStarted greet", "StepSucceeded greet", "WaitStarted rest 1", END, "WaitSucceeded rest 1"]
    case = Case("1-7", printing, history, "Hello, Ada!", params="Ada")
    entries, status, _ = await lived(case, killed_at_rests=killed_at_rests)
    assert rendered(entries, set()) == numbered(case.history)
    assert status["output"] == case.result
    printed = capsys.readouterr().out.splitlines()
    assert printed == ["Greeting step started for: Ada", "Greeting step completed with: Hello, Ada!"]


@pytest.mark.parametrize(
    ("id", "options", "history", "status", "runs"),
    [
        ("1-17", {"at_most_once": True}, ["StepStarted work", KILLED, "StepFailed work StepInterrupted"], "errored", 1),
        (
            "1-18",
            {},
            [
                "StepStarted work",
                KILLED,
                "StepFailed work WorkflowInternalError attempt 1, next in 0",
                "StepStarted work",
                "StepSucceeded work attempt 2",
            ],
            "complete",
            2,
        ),
    ],
)
async def test_step_whose_process_is_killed(
    autojump_clock: object, id: str, options: dict[str, Any], history: list[str], status: str, runs: int
) -> None:
    begun, ran = trio.Event(), Counter[str]()

    async def run(step: Any, event: Any, ran: Counter[str]) -> Any:
        async def body() -> str:
            ran["work"] += 1
            if ran["work"] == 1:
                begun.set()
                await trio.sleep_forever()
            return "succeeded on second attempt"

        return await step.do("work", *retries(3, 1000), body, **options)

    flow, random = flow_of(run, ran), CountingRandomness()
    async with open_world(flow, random=random) as world:
        await world.create()
        await begun.wait()
        await trio.sleep(1)
        store, seq = world.store.crash(), len(entries_of(world))
    async with open_world(flow, store, random=random, clock=JumpingClock(60_000)) as world:
        assert (await world.settled())["status"] == status
        assert rendered(entries_of(world), {seq}) == numbered(history)
    assert ran["work"] == runs
