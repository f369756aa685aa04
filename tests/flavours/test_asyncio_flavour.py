"""Scripts of asyncio's flavour: what they may use, how they are cancelled, what survives their mistakes."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import logging
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import sniffio
import trio
from edge_process import PATIENCE_S

from edge_runtime.event import EventContext, EventKind, current_event
from edge_runtime.isolate.asyncio_flavour import AsyncioFlavour, open_asyncio_flavour
from edge_runtime.metering.child_tasks import ChildTaskMeter
from edge_runtime.metering.meter import user_meter
from edge_runtime.promise import Promise

Run = Callable[[Callable[..., Awaitable[Any]]], Awaitable[Any]]


@asynccontextmanager
async def an_event() -> AsyncIterator[EventContext]:
    async with open_asyncio_flavour() as flavour, trio.open_nursery() as nursery:
        yield EventContext(EventKind.FETCH, "Default.fetch", nursery, flavour)
        nursery.cancel_scope.cancel()


def burn(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


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


# Threads


async def test_threads_keep_the_context_and_foreign_executors_work() -> None:
    async with an_event() as event:
        word = contextvars.ContextVar("word", default="")

        async def handler() -> list[object]:
            word.set("kept")
            loop = asyncio.get_running_loop()
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                return [
                    await asyncio.to_thread(word.get),
                    await loop.run_in_executor(None, divmod, 7, 2),
                    await loop.run_in_executor(pool, threading.get_ident) == threading.get_ident(),
                ]

        assert await event.run(handler) == ["kept", (3, 1), False]


async def test_default_executor_may_be_replaced() -> None:
    async with an_event() as event:

        async def handler() -> str:
            loop = asyncio.get_running_loop()
            loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(1, "script"))
            with pytest.raises(TypeError, match="must be ThreadPoolExecutor"):
                loop.set_default_executor(object())  # type: ignore[arg-type]
            return await asyncio.to_thread(lambda: threading.current_thread().name)

        assert (await event.run(handler)).startswith("script")


async def test_timeout_leaves_a_thread_to_itself() -> None:
    release = threading.Event()
    async with an_event() as event:

        async def handler() -> None:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await asyncio.to_thread(release.wait, 10)

        await event.run(handler)
        release.set()


async def test_coroutine_may_be_run_from_a_thread() -> None:
    async with an_event() as event:

        async def answer() -> int:
            await asyncio.sleep(0)
            return 42

        async def handler() -> int:
            loop = asyncio.get_running_loop()
            return await asyncio.to_thread(lambda: asyncio.run_coroutine_threadsafe(answer(), loop).result(PATIENCE_S))

        assert await event.run(handler) == 42


async def test_thread_may_run_a_loop_of_its_own() -> None:
    async def answer() -> tuple[str, str]:
        await asyncio.sleep(0)
        return type(asyncio.get_running_loop()).__module__, sniffio.current_async_library()

    async with an_event() as event:

        async def handler() -> tuple[str, str]:
            with pytest.raises(RuntimeError, match="cannot be called from a running event loop"):
                asyncio.run(never := answer())
            never.close()
            return await asyncio.to_thread(lambda: asyncio.run(answer()))

        assert await event.run(handler) == ("asyncio.unix_events", "asyncio")


def test_script_may_run_a_loop_while_it_is_imported() -> None:
    async def answer() -> int:
        await asyncio.sleep(0)
        return 42

    assert asyncio.run(answer()) == 42


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


# What a script's mistakes do to others


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


# Context and metering


async def test_event_and_meter_are_visible_in_the_script_and_its_tasks() -> None:
    async with an_event() as event:

        async def look() -> tuple[object, object]:
            return current_event.get(), user_meter.get()

        async def handler() -> list[tuple[object, object]]:
            inner = await asyncio.create_task(look())
            return [await look(), inner, *await asyncio.gather(look())]

        assert await event.run(handler) == [(event, event.meter)] * 3
        assert current_event.get() is None


async def test_events_side_by_side_keep_their_contexts_apart() -> None:
    async with open_asyncio_flavour() as flavour, trio.open_nursery() as nursery:
        seen: dict[str, object] = {}

        async def handler(name: str) -> None:
            for _ in range(3):
                await asyncio.sleep(0)
                event = current_event.get()
                assert event is not None
                assert event.name == name
            seen[name] = True

        async def deliver(name: str) -> None:
            await EventContext(EventKind.FETCH, name, nursery, flavour).run(handler, name)

        async with trio.open_nursery() as deliveries:
            for number in range(5):
                deliveries.start_soon(deliver, str(number))
        assert len(seen) == 5


async def test_flavour_works_in_a_task_begun_outside_of_its_scope() -> None:
    async with trio.open_nursery() as nursery:
        send, receive = trio.open_memory_channel[AsyncioFlavour](0)
        got: list[str] = []

        async def outside() -> None:
            flavour = await receive.receive()
            got.append(await flavour.run(asyncio.sleep(0, "ran")))

        nursery.start_soon(outside)
        async with open_asyncio_flavour() as flavour:
            await send.send(flavour)
            await trio.testing.wait_all_tasks_blocked()
            await trio.sleep(0.01)
    assert got == ["ran"]


BURN_S = 0.1


async def _burn_here() -> None:
    burn(BURN_S)


async def _burn_after_waiting() -> None:
    await asyncio.sleep(0.001)
    burn(BURN_S)


async def _burn_in_a_task() -> None:
    await asyncio.create_task(_burn_after_waiting())


async def _burn_in_a_group() -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(asyncio.to_thread(burn, BURN_S / 2))


async def _burn_in_gather() -> None:
    async def half() -> None:
        await asyncio.sleep(0)
        burn(BURN_S / 2)

    await asyncio.gather(half(), half())


async def _burn_in_a_callback() -> None:
    loop = asyncio.get_running_loop()
    loop.call_soon(burn, BURN_S / 2)
    loop.call_later(0.001, burn, BURN_S / 2)
    await asyncio.sleep(0.002)


@pytest.mark.parametrize(
    "script",
    [_burn_here, _burn_after_waiting, _burn_in_a_task, _burn_in_a_group, _burn_in_gather, _burn_in_a_callback],
)
@pytest.mark.usefixtures("no_collection")
def test_cpu_time_is_charged_to_the_event_and_to_no_other(script: Callable[[], Awaitable[None]]) -> None:
    async def main() -> tuple[int, int]:
        async with open_asyncio_flavour() as flavour, trio.open_nursery() as nursery:
            busy = EventContext(EventKind.FETCH, "busy", nursery, flavour)
            idle = EventContext(EventKind.FETCH, "idle", nursery, flavour)

            async def wait() -> None:
                await asyncio.sleep(0.01)

            async with trio.open_nursery() as deliveries:
                deliveries.start_soon(idle.run, wait)
                deliveries.start_soon(busy.run, script)
            return busy.meter.cpu_us, idle.meter.cpu_us

    busy_us, idle_us = trio.run(main, instruments=[ChildTaskMeter()])
    # What is around it takes longer on a slow machine, but not as long again.
    assert 0.95 * BURN_S * 1e6 <= busy_us <= 1.7 * BURN_S * 1e6
    assert idle_us < BURN_S * 1e6 / 2
