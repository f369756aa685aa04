"""Scripts of asyncio's flavour: what they may use, what they await, how they are cancelled."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
import sniffio
import trio
from asyncio_events import an_event
from edge_process import PATIENCE_S

from edge_runtime.isolate.asyncio_flavour import open_asyncio_flavour
from edge_runtime.promise import Promise

# What a script may use


async def test_handler_that_does_not_wait_finishes_within_the_callers_step() -> None:
    async with open_asyncio_flavour() as flavour:
        turns = 0

        async def count_turns() -> None:
            nonlocal turns
            while True:
                await trio.lowlevel.checkpoint()
                turns += 1

        async def handler() -> str:
            return "done"

        async with trio.open_nursery() as nursery:
            nursery.start_soon(count_turns)
            assert await flavour.run(handler()) == "done"
            assert turns == 0
            nursery.cancel_scope.cancel()


async def test_script_sees_its_task_its_loop_and_its_library() -> None:
    async with an_event() as event:

        async def handler() -> None:
            for _ in range(2):
                assert asyncio.current_task() is not None
                assert asyncio.get_running_loop() is asyncio.get_event_loop()
                assert asyncio.current_task() in asyncio.all_tasks()
                assert sniffio.current_async_library() == "asyncio"
                await asyncio.sleep(0)

        await event.run(handler)
        assert sniffio.current_async_library() == "trio"


async def test_gather_task_group_queue_event_and_lock_work() -> None:
    async with an_event() as event:

        async def handler() -> list[Any]:
            queue: asyncio.Queue[int] = asyncio.Queue(1)
            done = asyncio.Event()
            lock = asyncio.Lock()

            async def produce() -> None:
                for number in range(3):
                    async with lock:
                        await queue.put(number)
                done.set()

            async def consume() -> list[int]:
                return [await queue.get() for _ in range(3)]

            async with asyncio.TaskGroup() as group:
                group.create_task(produce())
                consumed = group.create_task(consume())
            await done.wait()
            doubled = await asyncio.gather(*(asyncio.sleep(0, number * 2) for number in consumed.result()))
            return [consumed.result(), doubled]

        assert await event.run(handler) == [[0, 1, 2], [0, 2, 4]]


async def test_timeouts_and_sleeps_follow_the_loops_clock(autojump_clock: trio.testing.MockClock) -> None:
    async with an_event() as event:

        async def handler() -> float:
            before = asyncio.get_running_loop().time()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(5):
                    await asyncio.sleep(60)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.sleep(60), 3)
            await asyncio.sleep(-1)
            return asyncio.get_running_loop().time() - before

        assert await event.run(handler) == pytest.approx(8)


async def test_timers_fire_in_the_order_of_their_times(autojump_clock: trio.testing.MockClock) -> None:
    async with an_event() as event:
        fired: list[int] = []

        async def handler() -> None:
            loop = asyncio.get_running_loop()
            for delay in (3, 1, 2):
                loop.call_later(delay, fired.append, delay)
            loop.call_later(1.5, fired.append, 99).cancel()
            await asyncio.sleep(4)

        await event.run(handler)
        assert fired == [1, 2, 3]


async def test_cancelled_timers_are_swept(autojump_clock: trio.testing.MockClock) -> None:
    async with an_event() as event:

        async def handler() -> int:
            loop: Any = asyncio.get_running_loop()
            for _ in range(1000):
                async with asyncio.timeout(3600):
                    await asyncio.sleep(0)
            return len(loop._timers)

        assert await event.run(handler) < 250


async def test_streams_and_subprocesses_work() -> None:
    async with an_event() as event:

        async def handler() -> tuple[bytes, bytes]:
            async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                writer.write((await reader.readline()).upper())
                await writer.drain()
                writer.close()
                await writer.wait_closed()

            server = await asyncio.start_server(answer, "127.0.0.1", 0)
            async with server:
                reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
                writer.write(b"hello\n")
                answered = await reader.read()
                writer.close()
                await writer.wait_closed()
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-c", "print('child')", stdout=asyncio.subprocess.PIPE
            )
            printed, _ = await child.communicate()
            return answered, printed

        assert await event.run(handler) == (b"HELLO\n", b"child\n")


async def test_async_generator_left_half_way_is_finalized() -> None:
    closed = trio.Event()
    async with an_event() as event:

        async def numbers() -> AsyncIterator[int]:
            try:
                yield 1
                yield 2
            finally:
                await asyncio.sleep(0)
                closed.set()

        async def handler() -> None:
            async for _ in numbers():
                break

        await event.run(handler)
        with trio.fail_after(PATIENCE_S):
            await closed.wait()


# Promises


async def test_promise_is_awaited_by_many_tasks_at_once() -> None:
    async with an_event() as event:
        promise: Promise[int] = Promise()

        async def wait() -> int:
            return await promise

        async def handler() -> list[int]:
            waiters = [asyncio.create_task(wait()), asyncio.create_task(promise)]
            return await asyncio.gather(*waiters, promise, Promise.resolved(1))

        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def settle() -> None:
                await trio.testing.wait_all_tasks_blocked()
                promise.resolve(7)

            assert await event.run(handler) == [7, 7, 7, 1]


async def test_rejected_promise_raises_in_the_script() -> None:
    async with an_event() as event:

        async def handler() -> None:
            await event.spawn(fail)

        async def fail() -> None:
            await trio.lowlevel.checkpoint()
            raise ValueError("no such key")

        with pytest.raises(ValueError, match="no such key"):
            await event.run(handler)


async def test_timeout_around_a_promise_cancels_the_work_it_stands_for(autojump_clock: trio.testing.MockClock) -> None:
    async with an_event() as event:
        ended: list[str] = []

        async def work() -> None:
            try:
                await trio.sleep(60)
            finally:
                ended.append("cancelled")

        async def handler() -> None:
            async with asyncio.timeout(1):
                await event.spawn(work)

        with pytest.raises(TimeoutError):
            await event.run(handler)
        await trio.testing.wait_all_tasks_blocked()
        assert ended == ["cancelled"]


# Cancellation


async def test_cancelling_the_event_cancels_the_script_once() -> None:
    async with an_event() as event:
        seen: list[str] = []

        async def handler() -> None:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                seen.append("cancelled")
                await asyncio.sleep(0)
                seen.append("cleaned up")
                raise

        with trio.move_on_after(0.01) as scope:
            await event.run(handler)
        assert scope.cancelled_caught
        assert seen == ["cancelled", "cleaned up"]


async def test_script_that_swallows_cancellation_is_waited_for() -> None:
    async with an_event() as event:

        async def handler() -> str:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                await asyncio.sleep(0.01)
            return "swallowed"

        with trio.move_on_after(0.01) as scope:
            assert await event.run(handler) == "swallowed"
        assert not scope.cancelled_caught


async def test_script_that_cancels_itself_raises_its_own_error() -> None:
    async with an_event() as event:

        async def handler() -> None:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)

        with pytest.raises(asyncio.CancelledError):
            await event.run(handler)


async def test_cancellation_before_the_first_wait_reaches_the_script() -> None:
    async with an_event() as event:

        async def handler() -> None:
            await asyncio.sleep(60)

        with trio.CancelScope() as scope:
            scope.cancel()
            await event.run(handler)
        assert scope.cancelled_caught
