"""Blocking callbacks in real threads: what a timeout and a termination end, and what they can only leave behind.

Python code is interrupted between two of its operations, and its `finally` blocks run. A call that waits in native
code is left behind and interrupted when it returns; code that swallows the interruption ends when it will. Neither has
an effect on the instance any more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from edge_process import PATIENCE_S
from workflow_world import open_world

from edge_runtime.seams import ThreadOffload
from edge_runtime.workers.entrypoints import WorkflowEntrypoint

SHORT = {"retries": {"limit": 0, "delay": 1}, "timeout": 400}


class Busy:
    """Blocks until it is let go; `ended` tells how its thread left it."""

    def __init__(self, wait: Callable[[Busy], None]) -> None:
        self.begun = threading.Event()
        self.let_go = threading.Event()
        self.over = threading.Event()
        self.ended = ""
        self._wait = wait

    def __call__(self) -> str:
        try:
            self.begun.set()
            self._wait(self)
            self.ended = "let go"
            return "too late"
        except BaseException as error:
            self.ended = type(error).__name__
            raise
        finally:
            self.over.set()


def in_python(busy: Busy) -> None:
    while not busy.let_go.is_set():
        time.sleep(0.001)


def in_native_code(busy: Busy) -> None:
    busy.let_go.wait()


def swallowing(busy: Busy) -> None:
    while not busy.let_go.is_set():
        try:
            time.sleep(0.001)
        except BaseException:
            continue


WAYS = pytest.mark.parametrize(
    ("wait", "at_once", "ended"),
    [
        (in_python, True, "StepInterruption"),
        (in_native_code, False, "StepInterruption"),
        (swallowing, False, "let go"),
    ],
    ids=["python code", "native code", "swallows it"],
)


def flow_of(busy: Busy, after: list[str]) -> type[WorkflowEntrypoint]:
    class Flow(WorkflowEntrypoint):
        async def run(self, event: Any, step: Any) -> Any:
            try:
                return await step.do("busy", SHORT if event.payload["timeout"] else {}, busy)
            except Exception as error:
                return [error.name, await step.do("after", lambda: after.append("ran"))]  # type: ignore[attr-defined]

    return Flow


@WAYS
async def test_timeout_of_a_blocking_step_fails_it_whatever_its_thread_does(
    wait: Callable[[Busy], None], at_once: bool, ended: str
) -> None:
    busy, after = Busy(wait), list[str]()
    async with open_world(flow_of(busy, after), offload=ThreadOffload(4)) as world:
        await world.create(params={"timeout": True})
        try:
            status = await world.settled()
            assert (status["status"], list(status["output"])) == ("complete", ["WorkflowTimeoutError", None])
            assert after == ["ran"]
            if at_once:
                assert busy.over.wait(PATIENCE_S)
            else:
                assert not busy.over.is_set()
        finally:
            busy.let_go.set()
        assert busy.over.wait(PATIENCE_S)
        assert busy.ended == ended
        # What came too late has changed nothing.
        assert list((await world.status())["output"]) == ["WorkflowTimeoutError", None]


async def test_blocking_step_holds_up_nobody_else() -> None:
    busy = Busy(in_native_code)

    class Flow(WorkflowEntrypoint):
        async def run(self, event: Any, step: Any) -> Any:
            if event.payload == "quick":
                return await step.do("quick", lambda: "done meanwhile")
            return await step.do("busy", busy)

    async with open_world(Flow, offload=ThreadOffload(4)) as world:
        await world.create("slow")
        try:
            assert await ThreadOffload(1)(busy.begun.wait, 30)
            await world.create("other", "quick")
            assert (await world.settled("other"))["output"] == "done meanwhile"
            assert (await world.status("slow"))["status"] == "running"
            assert not busy.over.is_set()
        finally:
            busy.let_go.set()
        assert (await world.settled("slow"))["output"] == "too late"


@WAYS
async def test_termination_does_not_wait_for_a_blocked_thread(
    wait: Callable[[Busy], None], at_once: bool, ended: str
) -> None:
    busy, after = Busy(wait), list[str]()
    async with open_world(flow_of(busy, after), offload=ThreadOffload(4)) as world:
        await world.create(params={"timeout": False})
        try:
            await ThreadOffload(1)(busy.begun.wait, PATIENCE_S)

            async def terminate() -> None:
                await (await world.namespace.get("one")).terminate()

            await world.handler(terminate)
            assert (await world.settled())["status"] == "terminated"
            assert after == []
            if at_once:
                assert busy.over.wait(PATIENCE_S)
        finally:
            busy.let_go.set()
        assert busy.over.wait(PATIENCE_S)
    assert busy.ended == ended
