"""`run_sync` in the threads of WSGI apps, in both flavours."""

from __future__ import annotations

import concurrent.futures
import contextvars
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from edge_process import PATIENCE_S
from foreign_worker import Worker, incoming, sent

from edge_runtime.compat import wsgi
from edge_runtime.compat.blocking import run_sync
from edge_runtime.event import current_event
from edge_runtime.promise import Promise

Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], None]]


def hello(environ: Environ, start_response: StartResponse) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


async def test_bindings_are_used_from_the_app_by_run_sync(worker: Worker) -> None:
    async def later() -> int:
        await worker.sleep(0.001)
        event = current_event.get()
        assert event is not None
        return 40

    async def get(value: int) -> int:
        await trio.sleep(0.001)
        return value

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        event = environ["workers.env"]
        total = run_sync(later()) + run_sync(Promise.resolved(1)) + run_sync(environ["workers.env"].pending)
        start_response("200 OK", [])
        assert event is not None
        return [str(total).encode()]

    event = worker.event()
    env = SimpleNamespace(pending=event.spawn(get, 1))
    response = await worker.respond(event, wsgi, app, incoming(), env)
    assert (await sent(response)).body == b"42"
    await event.finish()


async def test_run_sync_raises_what_the_awaitable_raises(worker: Worker) -> None:
    async def fail() -> None:
        await worker.sleep(0.001)
        raise ValueError("no such key")

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        with pytest.raises(ValueError, match="no such key"):
            run_sync(fail())
        return hello(environ, start_response)

    assert (await worker.fetch(wsgi, app)).body == b"hello"


async def test_run_sync_on_the_loops_thread_is_refused_unless_the_result_is_there(worker: Worker) -> None:
    async def coroutine() -> None:
        raise AssertionError("must not run")

    async def handler() -> None:
        assert run_sync(Promise.resolved(3)) == 3
        with pytest.raises(RuntimeError, match="await it"):
            run_sync(Promise())
        with pytest.raises(RuntimeError, match="await it"):
            run_sync(coroutine())

    await worker.event().run(handler)


async def test_run_sync_works_in_threads_that_the_app_starts_with_its_context(worker: Worker) -> None:
    async def later() -> bytes:
        await worker.sleep(0.001)
        return b"from a pool"

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [])
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            return [pool.submit(contextvars.copy_context().run, run_sync, later()).result()]

    assert (await worker.fetch(wsgi, app)).body == b"from a pool"


def test_run_sync_in_a_thread_without_event_is_refused() -> None:
    async def coroutine() -> None:
        raise AssertionError("must not run")

    with pytest.raises(RuntimeError, match="does not belong to an event"):
        run_sync(coroutine())


async def test_event_that_ends_stops_an_app_that_waits(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_runtime.event.WAIT_UNTIL_MS", 10)
    ended: list[str] = []

    waits = threading.Event()

    def pieces() -> Iterator[bytes]:
        yield b"first"
        try:
            waits.set()
            run_sync(worker.sleep(60))
        finally:
            ended.append("ended")

    def app(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [])
        return pieces()

    event = worker.event()
    await worker.respond(event, wsgi, app, incoming())
    with trio.fail_after(PATIENCE_S):
        while not waits.is_set():
            await trio.sleep(0.001)
        await event.finish()
        while not ended:
            await trio.sleep(0.001)
