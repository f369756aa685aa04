"""ASGI apps behind `asgi.fetch`, in both flavours."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from asgi_apps import http_only, piece, start
from edge_process import PATIENCE_S
from foreign_worker import Worker, incoming, sent

from edge_runtime.compat import asgi
from edge_runtime.event import EventContext
from edge_runtime.promise import Promise
from edge_runtime.workers.request import Request


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
    assert event.meter.cpu_s > 0


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
