"""WSGI apps behind `wsgi.fetch`, in both flavours."""

from __future__ import annotations

import io
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from edge_process import PATIENCE_S
from foreign_worker import Worker, incoming, sent

from edge_runtime.compat import wsgi
from edge_runtime.event import current_event
from edge_runtime.workers.request import Request

Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], None]]


def hello(environ: Environ, start_response: StartResponse) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


class Closing:
    """An iterable as frameworks return it: with `close`, which is called once."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces

    def close(self) -> None:
        self.closed += 1


async def test_environ_describes_the_request(worker: Worker) -> None:
    seen: Environ = {}
    env = SimpleNamespace(NAME="value")

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        seen.update(environ, body=environ["wsgi.input"].read())
        return hello(environ, start_response)

    await worker.fetch(
        wsgi,
        app,
        "https://example.com:8443/caf%C3%A9/a%2Fb?x=1%202&y",
        method="PUT",
        headers=[
            (b"host", b"example.com:8443"),
            (b"content-type", b"text/x"),
            (b"content-length", b"0"),
            (b"x-twice", b"1"),
            (b"x-twice", b"2"),
            (b"cookie", b"a=1"),
            (b"cookie", b"b=2"),
            (b"x_twice", b"forged"),
            (b"proxy", b"http://evil"),
        ],
        env=env,
    )
    assert seen["REQUEST_METHOD"] == "PUT"
    assert seen["PATH_INFO"].encode("latin-1").decode() == "/café/a/b"
    assert seen["SCRIPT_NAME"] == ""
    assert seen["QUERY_STRING"] == "x=1%202&y"
    assert (seen["SERVER_NAME"], seen["SERVER_PORT"], seen["SERVER_PROTOCOL"]) == ("example.com", "8443", "HTTP/1.1")
    assert (seen["CONTENT_TYPE"], seen["CONTENT_LENGTH"]) == ("text/x", "0")
    assert seen["HTTP_X_TWICE"] == "1,2"
    assert seen["HTTP_COOKIE"] == "a=1; b=2"
    assert "HTTP_PROXY" not in seen
    assert seen["workers.env"] is env
    assert seen["wsgi.version"] == (1, 0)
    assert seen["wsgi.url_scheme"] == "https"
    assert seen["wsgi.errors"] is sys.stderr
    assert (seen["wsgi.multiprocess"], seen["wsgi.run_once"]) == (False, False)
    assert seen["body"] == b""


async def test_whole_answer_keeps_status_headers_and_cookies(worker: Worker) -> None:
    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        start_response("418 Short and stout", [("X-Kind", "tea"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
        return [b"one", b"two"]

    answer = await worker.fetch(wsgi, app)
    assert (answer.status, answer.pieces) == (418, [b"onetwo"])
    assert answer.headers[:3] == [(b"x-kind", b"tea"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]


async def test_app_runs_in_another_thread_as_its_event(worker: Worker) -> None:
    seen: list[object] = []

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        seen.extend([threading.get_ident() != loop_thread, current_event.get()])
        return hello(environ, start_response)

    loop_thread = threading.get_ident()
    event = worker.event()
    await worker.respond(event, wsgi, app, incoming())
    assert seen == [True, event]


@pytest.mark.usefixtures("no_collection")
async def test_cpu_time_of_the_app_is_charged_to_its_event(worker: Worker) -> None:
    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        end = time.thread_time() + 0.05
        while time.thread_time() < end:
            pass
        return hello(environ, start_response)

    event = worker.event()
    await worker.respond(event, wsgi, app, incoming())
    await event.finish()
    assert 47_500 <= event.meter.cpu_us <= 90_000


# Input


async def test_input_is_fetched_as_it_is_read(worker: Worker) -> None:
    lines: list[bytes] = []

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        body: io.BufferedReader = environ["wsgi.input"]
        lines.extend([body.readline(), body.read(3), *body])
        assert body.read() == b""
        return hello(environ, start_response)

    await worker.fetch(wsgi, app, method="POST", upload=[b"first li", b"ne\nsec", b"", b"ond\nthi", b"rd\n"])
    assert lines == [b"first line\n", b"sec", b"ond\n", b"third\n"]


async def test_input_left_unread_is_no_error(worker: Worker) -> None:
    assert (await worker.fetch(wsgi, hello, method="POST", upload=[b"never", b"read"])).body == b"hello"


# Streaming


async def test_stream_begins_before_the_app_has_finished(worker: Worker) -> None:
    go_on = threading.Event()

    def app(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b""
        yield b"first"
        assert go_on.wait(PATIENCE_S)
        yield b"second"

    got: list[bytes] = []

    async def write(data: bytes) -> None:
        got.append(data)
        go_on.set()

    event = worker.event()
    response = await worker.respond(event, wsgi, app, incoming())
    await sent(response, write)
    assert got == [b"first", b"second"]


async def test_piece_of_the_stated_length_is_sent_as_a_whole(worker: Worker) -> None:
    def app(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Length", "5")])
        yield b"hello"

    event = worker.event()
    response = await worker.respond(event, wsgi, app, incoming())
    assert response._outgoing().body == b"hello"
    await event.finish()


async def test_write_sends_before_the_iterable(worker: Worker) -> None:
    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        write = start_response("200 OK", [])
        write(b"one ")
        write(b"two ")
        return [b"three"]

    assert (await worker.fetch(wsgi, app)).body == b"one two three"


async def test_head_may_change_until_the_first_piece(worker: Worker) -> None:
    def app(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [("X-Try", "1")])
        try:
            raise ValueError("noticed in time")
        except ValueError:
            start_response("503 Busy", [("X-Try", "2")], sys.exc_info())
        yield b"busy"

    answer = await worker.fetch(wsgi, app)
    assert (answer.status, answer.headers[0]) == (503, (b"x-try", b"2"))


async def test_status_without_body_drops_what_the_app_gives(worker: Worker) -> None:
    def app(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("304 Not Modified", [])
        yield b"ignored"

    answer = await worker.fetch(wsgi, app)
    assert (answer.status, answer.body) == (304, b"")


async def test_iterable_and_input_are_closed(worker: Worker) -> None:
    inputs: list[Any] = []
    iterable = Closing(iter([b"a", b"b"]))

    def app(environ: Environ, start_response: StartResponse) -> Closing:
        inputs.append(environ["wsgi.input"])
        start_response("200 OK", [])
        return iterable

    assert (await worker.fetch(wsgi, app)).body == b"ab"
    assert iterable.closed == 1
    assert inputs[0].raw.closed


async def test_answer_leaves_before_the_iterable_is_closed(worker: Worker) -> None:
    closing = threading.Event()

    class Slow(Closing):
        def close(self) -> None:
            assert closing.wait(PATIENCE_S)
            super().close()

    iterable = Slow(iter([b"hello"]))

    def app(environ: Environ, start_response: StartResponse) -> Closing:
        start_response("200 OK", [("Content-Length", "5")])
        return iterable

    event = worker.event()
    response = await worker.respond(event, wsgi, app, incoming())
    assert (await sent(response)).body == b"hello"
    assert iterable.closed == 0
    closing.set()
    await event.finish()
    assert iterable.closed == 1


# Clients that go away


async def test_client_that_leaves_a_stream_ends_it(worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    def ticks() -> Iterator[bytes]:
        while True:
            yield b"x" * 1024

    iterable = Closing(ticks())

    def app(environ: Environ, start_response: StartResponse) -> Closing:
        start_response("200 OK", [])
        return iterable

    async def write(data: bytes) -> None:
        raise trio.BrokenResourceError

    event = worker.event()
    response = await worker.respond(event, wsgi, app, incoming())
    with pytest.raises(trio.BrokenResourceError):
        await sent(response, write)
    with trio.fail_after(PATIENCE_S):
        await event.finish()
    assert iterable.closed == 1
    assert event.failed_wait_until == []
    assert caplog.text == ""


async def test_client_that_leaves_before_the_answer_fails_reads_and_writes(worker: Worker) -> None:
    errors: list[str] = []
    reads = trio.Event()

    def app(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        try:
            environ["wsgi.input"].read()
        except OSError as error:
            errors.append(str(error))
        start_response("200 OK", [])
        for _ in range(3):
            yield b"late"

    async def receive() -> bytes | None:
        reads.set()
        return await trio.sleep_forever()

    event = worker.event()
    request = Request._incoming("POST", "http://example.com/", [], receive)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker.respond, event, wsgi, app, request)
            await reads.wait()
            scope.cancel()
    with trio.fail_after(PATIENCE_S):
        await event.finish()
    assert errors == ["the client has disconnected"]


# Apps that misbehave


async def test_error_before_the_answer_reaches_the_handler(worker: Worker) -> None:
    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [])
        raise ValueError("broken app")

    with pytest.raises(ValueError, match="broken app"):
        await worker.fetch(wsgi, app)


async def test_error_in_the_first_piece_reaches_the_handler_and_closes_the_iterable(worker: Worker) -> None:
    def pieces() -> Iterator[bytes]:
        yield b""
        raise ValueError("broken piece")

    iterable = Closing(pieces())

    def app(environ: Environ, start_response: StartResponse) -> Closing:
        start_response("200 OK", [])
        return iterable

    with pytest.raises(ValueError, match="broken piece"):
        await worker.fetch(wsgi, app)
    assert iterable.closed == 1


async def test_error_after_the_head_cuts_the_body_and_is_logged(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    def app(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"part"
        raise ValueError("broken half way")

    event = worker.event()
    response = await worker.respond(event, wsgi, app, incoming())
    with caplog.at_level(logging.ERROR, "wsgi"), pytest.raises(ValueError, match="broken half way"):
        await sent(response)
    assert "Exception while streaming WSGI response body" in caplog.text
    await event.finish()


async def test_error_info_after_the_head_is_raised_again(worker: Worker) -> None:
    def app(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"part"
        try:
            raise ValueError("too late")
        except ValueError:
            start_response("500 Oops", [], sys.exc_info())

    event = worker.event()
    response = await worker.respond(event, wsgi, app, incoming())
    with pytest.raises(ValueError, match="too late"):
        await sent(response)
    await event.finish()


def _no_start(environ: Environ, start_response: StartResponse) -> list[bytes]:
    return [b"body"]


def _two_starts(environ: Environ, start_response: StartResponse) -> list[bytes]:
    start_response("200 OK", [])
    start_response("200 OK", [])
    return []


def _bad_status(environ: Environ, start_response: StartResponse) -> list[bytes]:
    start_response(200, [])
    return []


def _status_out_of_range(environ: Environ, start_response: StartResponse) -> list[bytes]:
    start_response("700 What", [])
    return [b""]


def _headers_no_list(environ: Environ, start_response: StartResponse) -> list[bytes]:
    start_response("200 OK", (("A", "b"),))
    return []


def _header_of_the_connection(environ: Environ, start_response: StartResponse) -> list[bytes]:
    start_response("200 OK", [("Transfer-Encoding", "chunked")])
    return []


def _text(environ: Environ, start_response: StartResponse) -> list[str]:
    start_response("200 OK", [])
    return ["text"]


@pytest.mark.parametrize(
    ("app", "error", "message"),
    [
        (_no_start, RuntimeError, "The WSGI application did not call start_response"),
        (_two_starts, AssertionError, "called more than once"),
        (_bad_status, AssertionError, "must be like '200 OK', found 200"),
        (_status_out_of_range, ValueError, "range 200 to 599"),
        (_headers_no_list, AssertionError, "must be a list, found tuple"),
        (_header_of_the_connection, AssertionError, "belongs to the connection"),
        (_text, TypeError, "must give bytes, found str"),
    ],
)
async def test_breach_of_the_protocol_is_named(worker: Worker, app: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        await worker.fetch(wsgi, app)
