"""What the mistakes of scripts of asyncio's flavour do to others: nothing."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import threading
from collections.abc import Awaitable, Callable

import pytest
import trio
from asyncio_events import an_event
from edge_process import PATIENCE_S

from edge_runtime.isolate.asyncio_flavour import open_asyncio_flavour


async def test_failed_background_task_is_logged_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    async with an_event() as event:

        async def fail() -> None:
            raise ValueError("in the background")

        async def handler() -> str:
            asyncio.create_task(fail())  # noqa: RUF006
            asyncio.get_running_loop().call_soon(lambda: 1 / 0)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            return "answered"

        with caplog.at_level(logging.ERROR, "asyncio"):
            assert await event.run(handler) == "answered"
        assert "in the background" in caplog.text
        assert "ZeroDivisionError" in caplog.text
        assert await event.run(handler) == "answered"


async def _exit_now() -> None:
    sys.exit(3)


async def _exit_later() -> None:
    await asyncio.sleep(0)
    sys.exit(3)


async def _exit_in_a_task() -> None:
    await asyncio.create_task(_exit_later())


@pytest.mark.parametrize("leave", [_exit_now, _exit_later, _exit_in_a_task])
async def test_system_exit_reaches_the_caller_and_spares_the_loop(leave: Callable[[], Awaitable[None]]) -> None:
    async with an_event() as event:

        async def handler() -> None:
            await leave()

        with pytest.raises(SystemExit):
            await event.run(handler)
        assert await event.run(asyncio.sleep, 0, "alive") == "alive"


async def test_system_exit_in_a_callback_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with an_event() as event:

        async def handler() -> None:
            asyncio.get_running_loop().call_soon(sys.exit, 3)
            await asyncio.sleep(0)

        await event.run(handler)
        assert "SystemExit in a callback" in caplog.text
        assert await event.run(asyncio.sleep, 0, "alive") == "alive"


async def test_exception_handler_of_a_script_may_fail() -> None:
    async with an_event() as event:

        async def handler() -> None:
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _loop, _context: sys.exit(3))
            loop.call_soon(lambda: 1 / 0)
            await asyncio.sleep(0)

        await event.run(handler)
        assert await event.run(asyncio.sleep, 0, "alive") == "alive"


async def test_system_exit_of_a_protocol_spares_the_loop(caplog: pytest.LogCaptureFixture) -> None:
    async with an_event() as event:

        async def handler() -> None:
            loop = asyncio.get_running_loop()
            one, other = socket.socketpair()
            called = asyncio.Event()

            def readable() -> None:
                called.set()
                sys.exit(3)

            with one, other:
                loop.add_reader(one, readable)
                other.send(b"x")
                await called.wait()
                loop.remove_reader(one)

        await event.run(handler)
        assert "SystemExit in a callback" in caplog.text
        assert await event.run(asyncio.sleep, 0, "alive") == "alive"


async def test_script_cannot_stop_or_close_the_loop() -> None:
    async with an_event() as event:

        async def handler() -> None:
            loop = asyncio.get_running_loop()
            with pytest.raises(RuntimeError, match="cannot be stopped by a script"):
                loop.stop()
            with pytest.raises(RuntimeError, match="stop the loop before closing"):
                loop.close()

        await event.run(handler)
        assert await event.run(asyncio.sleep, 0, "alive") == "alive"


async def test_future_settled_from_a_wrong_thread_is_noticed() -> None:
    async with an_event() as event:

        async def handler() -> str:
            future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            thread = threading.Timer(0.02, lambda: future.set_result("late"))
            thread.start()
            return await future

        with trio.fail_after(PATIENCE_S):
            assert await event.run(handler) == "late"


async def test_stop_iteration_from_a_thread_is_an_error_of_the_script() -> None:
    async with an_event() as event:

        async def handler() -> None:
            await asyncio.to_thread(next, iter([]))

        with pytest.raises(RuntimeError, match="StopIteration"):
            await event.run(handler)
        assert await event.run(asyncio.sleep, 0, "alive") == "alive"


async def test_script_that_never_waits_for_io_leaves_others_their_turn() -> None:
    async with open_asyncio_flavour() as flavour:
        stop = False

        async def spin() -> None:
            while not stop:
                await asyncio.sleep(0)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(flavour.run, spin())
            for _ in range(10):
                await trio.lowlevel.checkpoint()
            stop = True


async def test_tasks_left_behind_go_on_until_the_flavour_closes() -> None:
    ended: list[str] = []
    goes_on = trio.Event()
    keep: list[object] = []

    async def background() -> None:
        try:
            await asyncio.sleep(0.01)
            goes_on.set()
            await asyncio.sleep(60)
        finally:
            ended.append("cancelled")

    async def handler() -> None:
        keep.append(asyncio.create_task(background()))

    async with open_asyncio_flavour() as flavour:
        await flavour.run(handler())
        with trio.fail_after(PATIENCE_S):
            await goes_on.wait()
        assert ended == []
    assert ended == ["cancelled"]


async def test_task_that_fails_or_hangs_at_close_is_logged_and_dropped(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_runtime.isolate.asyncio_flavour.ASYNCIO_CLOSE_S", 0.2)
    keep: list[object] = []

    async def fail() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise ValueError("failed while ending")

    async def hang() -> None:
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if "leaving" in keep:
                    raise

    async def handler() -> None:
        keep.extend([asyncio.create_task(fail()), asyncio.create_task(hang())])
        await asyncio.sleep(0)

    with trio.fail_after(PATIENCE_S):
        async with open_asyncio_flavour() as flavour:
            await flavour.run(handler())
    assert "failed while ending" in caplog.text
    assert "did not end within" in caplog.text
    keep.append("leaving")


async def test_loop_closes_when_the_surrounding_scope_is_cancelled() -> None:
    keep: list[object] = []

    async def handler() -> None:
        keep.append(asyncio.create_task(asyncio.sleep(60)))

    with trio.move_on_after(0.01) as scope:
        async with open_asyncio_flavour() as flavour:
            await flavour.run(handler())
            await trio.sleep_forever()
    assert scope.cancelled_caught
