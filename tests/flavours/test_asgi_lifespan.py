"""The lifespan of ASGI apps, one for each request, in both flavours."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from asgi_apps import open_tasks, piece, start
from foreign_worker import Worker, incoming, sent

from edge_runtime.compat import asgi
from edge_runtime.promise import PromiseCancelled


class LifespanApp:
    """Notes what happens to it. `fails` names the phase in which it reports failure or raises."""

    def __init__(self, fails: str = "") -> None:
        self.fails = fails
        self.events: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            scope["state"]["count"] += 1
            self.events.append(f"request {scope['state']['count']}")
            await start(send)
            await piece(send, b"ok")
            return
        assert (await receive())["type"] == "lifespan.startup"
        if self.fails == "raises":
            raise KeyError("no lifespan here")
        if self.fails == "startup":
            await send({"type": "lifespan.startup.failed", "message": "no database"})
            raise ValueError("no database")
        scope["state"]["count"] = 0
        self.events.append("startup")
        await send({"type": "lifespan.startup.complete"})
        assert (await receive())["type"] == "lifespan.shutdown"
        self.events.append("shutdown")
        if self.fails == "shutdown":
            raise ValueError("cannot close")
        await send({"type": "lifespan.shutdown.complete"})


async def test_each_request_is_a_life_of_the_app(worker: Worker) -> None:
    app = LifespanApp()
    await worker.fetch(asgi, app)
    await worker.fetch(asgi, app)
    assert app.events == ["startup", "request 1", "shutdown"] * 2


async def test_fastapi_app_lives_with_each_request_once_it_has_something_to_do(worker: Worker) -> None:
    app = pytest.importorskip("fastapi").FastAPI()
    events: list[str] = []

    async def route() -> str:
        events.append("request")
        return "ok"

    app.add_api_route("/", route)
    for _ in range(3):
        assert (await worker.fetch(asgi, app)).body == b'"ok"'
    assert events == ["request"] * 3
    app.router.on_startup.append(lambda: events.append("startup"))
    app.router.on_shutdown.append(lambda: events.append("shutdown"))
    for _ in range(2):
        events.clear()
        await worker.fetch(asgi, app)
        assert events == ["startup", "request", "shutdown"]


async def test_fastapi_app_with_a_lifespan_or_middleware_of_its_own_lives_with_each_request(worker: Worker) -> None:
    events: list[str] = []

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        events.append("startup")
        yield
        events.append("shutdown")

    class Middleware:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            events.append(scope["type"])
            await self.app(scope, receive, send)

    fastapi = pytest.importorskip("fastapi")
    with_lifespan, with_middleware = fastapi.FastAPI(lifespan=lifespan), fastapi.FastAPI()
    with_middleware.add_middleware(Middleware)
    for app, told in ((with_lifespan, ["startup", "shutdown"]), (with_middleware, ["lifespan", "http"])):
        for _ in range(2):
            events.clear()
            assert (await worker.fetch(asgi, app)).status == 404
            assert events == told


async def test_failed_startup_is_raised_with_its_message(worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(RuntimeError, match="no database"):
        await worker.fetch(asgi, LifespanApp("startup"))
    assert caplog.text == ""


async def test_app_without_lifespan_is_asked_once(worker: Worker) -> None:
    asked: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        asked.append(scope["type"])
        assert scope["type"] == "http"
        assert scope["state"] == {}
        await start(send)
        await piece(send, b"ok")

    await worker.fetch(asgi, app)
    await worker.fetch(asgi, app)
    assert asked == ["lifespan", "http", "http"]


async def test_app_that_returns_from_lifespan_or_cannot_be_remembered_is_served(worker: Worker) -> None:
    class Unhashable:
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            return self is other

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                await start(send)
                await piece(send, b"ok")

    for _ in range(2):
        assert (await worker.fetch(asgi, Unhashable())).body == b"ok"


async def test_failed_shutdown_is_logged_and_does_not_touch_the_answer(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "asgi"):
        assert (await worker.fetch(asgi, LifespanApp("shutdown"))).body == b"ok"
    assert "cannot close" in caplog.text


async def test_app_is_shut_down_after_an_error(worker: Worker) -> None:
    events: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            raise ValueError("broken app")
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        events.append("shutdown")
        await send({"type": "lifespan.shutdown.complete"})

    event = worker.event()
    with pytest.raises(ValueError, match="broken app"):
        await worker.respond(event, asgi, app, incoming())
    await event.finish()
    assert events == ["shutdown"]


async def test_task_group_opened_at_startup_serves_the_request(worker: Worker) -> None:
    done: list[str] = []
    answered = False

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            async with open_tasks(worker) as scope["state"]["spawn"]:
                await send({"type": "lifespan.startup.complete"})
                await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return

        async def background() -> None:
            while not answered:
                await worker.sleep(0.001)
            done.append("background")

        scope["state"]["spawn"](background)
        await start(send)
        await piece(send, b"ok")

    event = worker.event()
    response = await worker.respond(event, asgi, app, incoming())
    assert (await sent(response)).body == b"ok"
    assert done == []
    answered = True
    await event.finish()
    assert done == ["background"]


async def test_app_whose_startup_tasks_fail_is_an_error_for_the_handler(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()

            async def fail() -> None:
                await worker.sleep(0.001)
                raise ValueError("pool lost")

            async with open_tasks(worker) as spawn:
                spawn(fail)
                await send({"type": "lifespan.startup.complete"})
                await receive()
            return
        await worker.sleep(60)

    with pytest.raises(PromiseCancelled, match="cancelled before it answered"):
        await worker.fetch(asgi, app)
    await trio.testing.wait_all_tasks_blocked()
    assert "pool lost" in caplog.text


async def test_app_may_wait_for_shutdown_in_another_task(worker: Worker) -> None:
    events: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await worker.sleep(0)
            await start(send)
            await piece(send, b"ok")
            return

        async def live() -> None:
            await receive()
            await send({"type": "lifespan.startup.complete"})
            events.append((await receive())["type"])
            await send({"type": "lifespan.shutdown.complete"})

        async with open_tasks(worker) as spawn:
            spawn(live)

    assert (await worker.fetch(asgi, app)).body == b"ok"
    assert events == ["lifespan.shutdown"]
