"""A handler's first step is taken without a task. Nothing in it may tell it from one that asyncio itself runs."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from edge_process import PATIENCE_S

from edge_runtime.event import EventContext, EventKind
from edge_runtime.isolate.asyncio_flavour import open_asyncio_flavour


async def names_its_task(log: list[Any]) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.set_name("mine")
    await asyncio.sleep(0)
    log.append(asyncio.current_task() is task and task.get_name())


async def ends_with_its_task_known(log: list[Any]) -> str:
    task = asyncio.current_task()
    assert task is not None
    task.add_done_callback(lambda done: log.append(("done", done.result())))
    return "returned"


async def fails_with_its_task_known(log: list[Any]) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.add_done_callback(lambda done: log.append(("failed", repr(done.exception()))))
    raise ValueError("on purpose")


async def fails_without_a_task(log: list[Any]) -> None:
    raise KeyError("on purpose")


async def exits(log: list[Any]) -> None:
    asyncio.current_task()
    raise LookupError("stands for what ends a handler")


async def cancels_itself_before_it_waits(log: list[Any]) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel("enough")
    try:
        await asyncio.sleep(10)
    except asyncio.CancelledError as error:
        log.append(("cancelled", error.args, task.cancelling(), task.uncancel()))
    await asyncio.sleep(0)
    log.append("went on")


async def cancels_itself_before_it_yields(log: list[Any]) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        log.append(("cancelled", task.uncancel()))


async def cancels_itself_and_returns(log: list[Any]) -> str:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    return "too late"


async def cancels_itself_and_fails(log: list[Any]) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    raise ValueError("in spite of it")


async def runs_into_a_timeout(log: list[Any]) -> None:
    try:
        async with asyncio.timeout(0):
            await asyncio.sleep(10)
    except TimeoutError:
        log.append("timed out")
    async with asyncio.timeout(10) as timeout:
        await asyncio.sleep(0)
        log.append(timeout.expired())


async def has_a_group(log: list[Any]) -> None:
    async def child(name: str) -> None:
        log.append(name)
        await asyncio.sleep(0)
        log.append(name)

    async with asyncio.TaskGroup() as group:
        group.create_task(child("first"))
        group.create_task(child("second"))
        log.append("parent")


async def has_a_group_that_fails(log: list[Any]) -> None:
    async def child() -> None:
        raise ValueError("of the child")

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(child())
            await asyncio.sleep(10)
    except* ValueError as failed:
        log.append([repr(error) for error in failed.exceptions])


async def is_cancelled_by_its_child(log: list[Any]) -> None:
    parent = asyncio.current_task()
    assert parent is not None

    async def child() -> None:
        parent.cancel("by the child")

    running = asyncio.create_task(child())
    try:
        await asyncio.get_running_loop().create_future()
    except asyncio.CancelledError as error:
        log.append(error.args)
    await running
    parent.uncancel()


async def is_one_of_all_tasks(log: list[Any]) -> None:
    log.append(asyncio.current_task() in asyncio.all_tasks())


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


async def keeps_its_context(log: list[Any]) -> None:
    variable.set("set")

    async def child() -> None:
        log.append(variable.get())
        variable.set("by the child")

    await asyncio.create_task(child())
    log.append(variable.get())


async def catches_what_a_future_brings(log: list[Any]) -> None:
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.set_exception, OSError("of the future"))
    try:
        await future
    except OSError as error:
        log.append(str(error))


HANDLERS = [
    names_its_task, ends_with_its_task_known, fails_with_its_task_known, fails_without_a_task, exits,
    cancels_itself_before_it_waits, cancels_itself_before_it_yields, cancels_itself_and_returns,
    cancels_itself_and_fails, runs_into_a_timeout, has_a_group, has_a_group_that_fails, is_cancelled_by_its_child,
    is_one_of_all_tasks, keeps_its_context, catches_what_a_future_brings,
]  # fmt: skip


async def outcome(run: Awaitable[Any]) -> str:
    try:
        return repr(await run)
    except (Exception, asyncio.CancelledError) as error:
        return f"raised {type(error).__name__}: {error}"


@pytest.mark.parametrize("handler", HANDLERS)
async def test_first_step_is_as_in_a_loop_of_asyncio(handler: Callable[[list[Any]], Awaitable[Any]]) -> None:
    log: list[Any] = []
    own_log: list[Any] = []

    async def natively() -> str:
        told = await outcome(asyncio.ensure_future(handler(own_log)))
        await asyncio.sleep(0)
        return told

    async with open_asyncio_flavour() as flavour, trio.open_nursery() as nursery:
        own = await trio.to_thread.run_sync(asyncio.run, natively())
        event = EventContext(EventKind.FETCH, "Default.fetch", nursery, flavour)
        with trio.fail_after(PATIENCE_S):
            assert await outcome(event.run(handler, log)) == own
            await flavour.run(asyncio.sleep(0))
        nursery.cancel_scope.cancel()
    assert log == own_log


async def test_step_within_a_first_step_has_a_task_of_its_own() -> None:
    async with open_asyncio_flavour() as flavour, trio.open_nursery() as nursery:
        event = EventContext(EventKind.FETCH, "Default.fetch", nursery, flavour)
        tasks: list[Any] = []

        async def beside(ask_first: bool) -> str:
            tasks.append(asyncio.current_task())
            await asyncio.sleep(0)
            tasks.append(asyncio.current_task())
            return "beside"

        async def handler(ask_first: bool) -> str:
            if ask_first:
                tasks.append(asyncio.current_task())
            begun = event.begin(beside, ask_first)
            tasks.append(asyncio.current_task())
            assert await begun == "beside"
            tasks.append(asyncio.current_task())
            return "ended"

        for ask_first in (True, False):
            tasks.clear()
            assert await event.run(handler, ask_first) == "ended"
            own = tasks.pop()
            its = [task for task in tasks if task is not own]
            assert len(its) == 2
            assert its[0] is its[1] is not None
        nursery.cancel_scope.cancel()


async def test_work_begun_beside_a_handler_is_over_at_once_when_it_does_not_wait() -> None:
    async with open_asyncio_flavour() as flavour, trio.open_nursery() as nursery:
        event = EventContext(EventKind.FETCH, "Default.fetch", nursery, flavour)

        async def beside(fail: bool) -> str:
            if fail:
                raise ValueError("on purpose")
            return "beside"

        async def handler() -> None:
            assert event.begin(beside, False).result() == "beside"
            with pytest.raises(ValueError, match="on purpose"):
                await event.begin(beside, True)

        await event.run(handler)
        assert not event.has_open_work
        nursery.cancel_scope.cancel()


async def test_work_begun_beside_a_handler_ends_with_the_event() -> None:
    async with open_asyncio_flavour() as flavour, trio.open_nursery() as nursery:
        event = EventContext(EventKind.FETCH, "Default.fetch", nursery, flavour)
        ended = trio.Event()

        async def beside() -> None:
            try:
                await asyncio.sleep(100)
            finally:
                ended.set()

        async def handler() -> None:
            event.begin(beside)

        await event.run(handler)
        assert event.has_open_work
        await event.finish()
        with trio.fail_after(PATIENCE_S):
            await ended.wait()
        nursery.cancel_scope.cancel()
