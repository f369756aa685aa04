"""Threads of scripts of asyncio's flavour, and loops in them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import threading

import pytest
import sniffio
from asyncio_events import an_event
from edge_process import PATIENCE_S


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
