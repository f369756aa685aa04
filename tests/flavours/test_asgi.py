"""ASGI apps behind `asgi.fetch`, in both flavours."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from edge_process import PATIENCE_S
from foreign_worker import Worker, incoming, sent

from edge_runtime.compat import asgi
from edge_runtime.event import EventContext
from edge_runtime.promise import Promise, PromiseCancelled
from edge_runtime.workers.request import Request


async def start(send: Any, status: int = 200, headers: Any = ()) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})


async def piece(send: Any, body: bytes, more: bool = False) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})


@asynccontextmanager
async def open_tasks(worker: Worker) -> AsyncIterator[Callable[[Any], object]]:
    """The flavour's own task group, as a function that starts a task."""
    if worker.flavour.name == "trio":
        async with trio.open_nursery() as nursery:
            yield nursery.start_soon
    else:
        async with asyncio.TaskGroup() as group:
            yield lambda fn: group.create_task(fn())


def http_only(handle: Any) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await handle(scope, receive, send)

    return app


async def test_scope_describes_the_request(worker: Worker) -> None:
    seen: dict[str, Any] = {}
    env = SimpleNamespace(NAME="value")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.update(scope)
        await start(send)
        await piece(send, b"")

    await worker.fetch(
        asgi,
        http_only(app),
        "https://example.com:8443/caf%C3%A9/a%2Fb?x=1%202&y",
        method="PUT",
        headers=[(b"host", b"example.com:8443"), (b"x-twice", b"1"), (b"x-twice", b"2")],
        env=env,
    )
    assert seen["method"] == "PUT"
    assert seen["scheme"] == "https"
    assert seen["path"] == "/café/a/b"
    assert seen["raw_path"] == b"/caf%C3%A9/a%2Fb"
    assert seen["query_string"] == b"x=1%202&y"
    assert seen["http_version"] == "1.1"
    assert seen["root_path"] == ""
    assert seen["server"] == ("example.com", 8443)
    assert seen["headers"] == [(b"host", b"example.com:8443"), (b"x-twice", b"1"), (b"x-twice", b"2")]
    assert seen["env"] is env
    assert seen["asgi"]["version"] == "3.0"


async def test_request_of_javascripts_kind_is_accepted(worker: Worker) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send)
        await piece(send, scope["method"].encode())

    event = worker.event()
    request = Request("http://example.com/", method="DELETE")
    response = await worker.respond(event, asgi, http_only(app), request.js_object)
    assert (await sent(response)).body == b"DELETE"


async def test_whole_answer_keeps_status_headers_and_cookies(worker: Worker) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send, 418, [(b"Content-Type", b"text/tea"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")])
        await piece(send, b"short and stout")

    answer = await worker.fetch(asgi, http_only(app))
    assert answer.status == 418
    assert answer.pieces == [b"short and stout"]
    assert answer.headers[:3] == [(b"content-type", b"text/tea"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]


@pytest.mark.parametrize("more", [False, True])
async def test_status_without_body_drops_what_the_app_gives(worker: Worker, more: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send, 204)
        await piece(send, b"ignored", more)
        if more:
            await piece(send, b"")

    answer = await worker.fetch(asgi, http_only(app))
    assert (answer.status, answer.body) == (204, b"")


# Request bodies


async def test_body_is_handed_over_as_it_arrives(worker: Worker) -> None:
    got: list[tuple[bytes, bool]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        more = True
        while more:
            message = await receive()
            assert message["type"] == "http.request"
            more = message["more_body"]
            got.append((bytes(message["body"]), more))
        await start(send)
        await piece(send, b"")
        assert (await receive())["type"] == "http.disconnect"

    await worker.fetch(asgi, http_only(app), method="POST", upload=[b"one", b"two"])
    assert got == [(b"one", True), (b"two", True), (b"", False)]


async def test_request_without_body_has_one_empty_message(worker: Worker) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert await receive() == {"type": "http.request", "body": b"", "more_body": False}
        await start(send)
        await piece(send, b"ok")

    assert (await worker.fetch(asgi, http_only(app))).body == b"ok"


# Streaming


async def test_stream_begins_before_the_app_has_finished(worker: Worker) -> None:
    go_on = trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send)
        await piece(send, b"first", more=True)
        while not go_on.is_set():
            await worker.sleep(0.001)
        await piece(send, b"second", more=True)
        await piece(send, b"")

    got: list[bytes] = []

    async def write(data: bytes) -> None:
        got.append(data)
        go_on.set()

    event = worker.event()
    response = await worker.respond(event, asgi, http_only(app), incoming())
    await sent(response, write)
    assert got == [b"first", b"second"]


async def test_app_waits_for_a_client_that_reads_slowly(worker: Worker) -> None:
    produced = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal produced
        await start(send)
        for _ in range(50):
            await piece(send, b"x" * 16 * 1024, more=True)
            produced += 1
        await piece(send, b"")

    event = worker.event()
    response = await worker.respond(event, asgi, http_only(app), incoming())
    for _ in range(20):
        await trio.testing.wait_all_tasks_blocked()
    assert produced < 10
    assert len((await sent(response)).body) == 50 * 16 * 1024


async def test_handler_may_read_a_streamed_answer_itself(worker: Worker) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send)
        await piece(send, b"one ", more=True)
        await worker.sleep(0.001)
        await piece(send, b"two")

    async def handler() -> str:
        return await (await asgi.fetch(http_only(app), incoming(), None)).text()

    assert await worker.event().run(handler) == "one two"


# Clients that go away


async def test_client_that_leaves_a_stream_is_reported_to_the_app(worker: Worker) -> None:
    ended: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await start(send)
        try:
            while True:
                await piece(send, b"tick", more=True)
                await worker.sleep(0.001)
        except OSError as error:
            ended.append(str(error))
        ended.append((await receive())["type"])

    async def write(data: bytes) -> None:
        raise trio.BrokenResourceError

    event = worker.event()
    response = await worker.respond(event, asgi, http_only(app), incoming())
    with pytest.raises(trio.BrokenResourceError):
        await sent(response, write)
    await event.finish()
    assert ended == ["the client has disconnected", "http.disconnect"]


@pytest.mark.parametrize("reading", [False, True])
async def test_client_that_leaves_before_the_answer_is_reported_to_the_app(worker: Worker, reading: bool) -> None:
    ended: list[str] = []
    waits = trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if not reading:
            await receive()
        waits.set()
        ended.append((await receive())["type"])
        await start(send)
        with pytest.raises(OSError, match="disconnected"):
            await piece(send, b"late")
        ended.append("told")

    async def receive() -> bytes | None:
        return await trio.sleep_forever()

    event = worker.event()
    request = Request._incoming("POST", "http://example.com/", [], receive if reading else None)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker.respond, event, asgi, http_only(app), request)
            await waits.wait()
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
    with trio.fail_after(PATIENCE_S):
        await event.finish()
    assert ended == ["http.disconnect", "told"]


async def test_unfinished_app_ends_with_its_event(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_runtime.event.WAIT_UNTIL_MS", 10)
    ended: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send)
        await piece(send, b"answered")
        try:
            await worker.sleep(60)
        finally:
            ended.append("ended")

    event = worker.event()
    response = await worker.respond(event, asgi, http_only(app), incoming())
    assert (await sent(response)).body == b"answered"
    assert event.has_open_work
    with trio.fail_after(PATIENCE_S):
        await event.finish()
        await trio.testing.wait_all_tasks_blocked()
    assert ended == ["ended"]


async def test_background_work_does_not_delay_the_answer(worker: Worker) -> None:
    done: list[str] = []
    answered: Promise[None] = Promise()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send)
        await piece(send, b"answered")
        await answered
        done.append("background")

    event = worker.event()
    response = await worker.respond(event, asgi, http_only(app), incoming())
    assert (await sent(response)).body == b"answered"
    assert done == []
    answered.resolve(None)
    await event.finish()
    assert done == ["background"]


# Apps that misbehave


async def test_error_before_the_answer_reaches_the_handler(worker: Worker) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send)
        raise ValueError("broken app")

    with pytest.raises(ValueError, match="broken app"):
        await worker.fetch(asgi, http_only(app))


async def test_system_exit_of_an_app_reaches_the_handler_only(worker: Worker) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        sys.exit(1)

    async def good(scope: Any, receive: Any, send: Any) -> None:
        await start(send)
        await piece(send, b"alive")

    with pytest.raises(SystemExit):
        await worker.fetch(asgi, http_only(app))
    assert (await worker.fetch(asgi, http_only(good))).body == b"alive"


async def test_error_after_the_head_ends_the_body_and_is_logged(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send)
        await piece(send, b"part", more=True)
        raise ValueError("broken half way")

    assert (await worker.fetch(asgi, http_only(app))).body == b"part"
    assert "Exception in ASGI application after response started" in caplog.text
    assert "broken half way" in caplog.text


async def test_app_that_does_not_answer_is_an_error(worker: Worker) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()

    with pytest.raises(RuntimeError, match="The application did not generate a response"):
        await worker.fetch(asgi, http_only(app))


async def _body_first(scope: Any, receive: Any, send: Any) -> None:
    await piece(send, b"")


async def _head_twice(scope: Any, receive: Any, send: Any) -> None:
    await start(send)
    await start(send)


async def _unknown_message(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.push"})


@pytest.mark.parametrize(
    ("app", "message"),
    [
        (_body_first, "before http.response.start"),
        (_head_twice, "sent twice"),
        (_unknown_message, "allowed: http.response.start"),
    ],
)
async def test_messages_out_of_order_are_refused(worker: Worker, app: Any, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        await worker.fetch(asgi, http_only(app))


async def test_status_that_is_none_is_an_error_of_the_app(worker: Worker) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send, 42)
        await piece(send, b"")

    with pytest.raises(ValueError, match="range 200 to 599"):
        await worker.fetch(asgi, http_only(app))


# Lifespan


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

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            async with open_tasks(worker) as scope["state"]["spawn"]:
                await send({"type": "lifespan.startup.complete"})
                await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return

        async def background() -> None:
            await worker.sleep(0.005)
            done.append("background")

        scope["state"]["spawn"](background)
        await start(send)
        await piece(send, b"ok")

    event = worker.event()
    response = await worker.respond(event, asgi, app, incoming())
    assert (await sent(response)).body == b"ok"
    assert done == []
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


# Metering


async def test_app_runs_as_its_event(worker: Worker) -> None:
    from edge_runtime.event import current_event

    seen: list[EventContext | None] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(current_event.get())
        await start(send)
        await piece(send, b"")

    event = worker.event()
    await worker.respond(event, asgi, http_only(app), incoming())
    assert seen == [event]
    assert event.meter.cpu_ns > 0


@pytest.mark.usefixtures("no_collection")
async def test_threads_of_anyio_are_charged_to_the_event_and_kept(worker: Worker) -> None:
    anyio = pytest.importorskip("anyio", reason="anyio comes with apps that use it")
    threads: list[str] = []

    def route() -> None:
        threads.append(threading.current_thread().name)
        end = time.thread_time() + 0.04
        while time.thread_time() < end:
            pass

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await anyio.to_thread.run_sync(route)
        await start(send)
        await piece(send, b"ok")

    used: list[int] = []
    for _ in range(4):
        event = worker.event()
        await sent(await worker.respond(event, asgi, http_only(app), incoming()))
        await event.finish()
        used.append(event.meter.cpu_us)
    # The first of them also imports what anyio needs.
    assert all(38_000 <= cpu_us <= 72_000 for cpu_us in used[1:]), used
    if worker.flavour.name == "asyncio":
        kept = [thread for thread in threading.enumerate() if thread.name == "AnyIO worker thread"]
        assert len(kept) <= 2  # the first request may come before anyio has chosen its backend
