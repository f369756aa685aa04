"""ASGI apps that misbehave, in both flavours."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from asgi_apps import http_only, piece, start
from foreign_worker import Worker

from edge_runtime.compat import asgi


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


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ((b"x-split", b"a\r\nset-cookie: b=1"), "value for 'x-split': line breaks and NUL"),
        ((b"x-nul", bytearray(b"a\0")), "value for 'x-nul': line breaks and NUL"),
        ((b"x split", b"a"), "Invalid header name: 'x split'"),
        ((b"x-sm\xf6r", b"a"), "Invalid header name"),
    ],
)
async def test_headers_that_would_change_the_answer_are_errors_of_the_app(
    worker: Worker, header: Any, message: str
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send, headers=[header])
        await piece(send, b"")

    with pytest.raises(TypeError, match=message):
        await worker.fetch(asgi, http_only(app))


async def test_names_of_headers_become_lower_case_and_blanks_around_their_values_go(worker: Worker) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send, headers=[(b"X-Tea", memoryview(b" gr\xfcn \t"))])
        await piece(send, b"")

    assert (await worker.fetch(asgi, http_only(app))).headers[0] == (b"x-tea", b"gr\xfcn")
