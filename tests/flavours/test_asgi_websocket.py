"""ASGI apps behind `asgi.websocket`, in both flavours."""

from __future__ import annotations

import gc
import logging
from typing import Any

import pytest
import trio
import trio.testing
from foreign_worker import Worker, incoming

from edge_runtime.compat import asgi
from edge_runtime.event import EventContext
from edge_runtime.workers.response import Response

URL = "http://example.com/room?a=1"


class Client:
    """The client's connection, as `workers.websocket_link.SocketLink`."""

    def __init__(self, response: Response) -> None:
        self.got: list[object] = []
        self.handled = 0
        self.receiver: Any = None
        response.web_socket._couple(self)

    def listen(self, receiver: Any) -> None:
        self.receiver = receiver

    def send(self, data: str | bytes, handled: Any = None) -> None:
        self.got.append(data)

    def close(self, code: int, reason: str) -> None:
        self.got.append((code, reason))

    def abort(self, error: str | None = None) -> None:
        self.got.append("aborted")

    def say(self, data: str | bytes) -> None:
        self.receiver.message(data, self._handled)

    def _handled(self) -> None:
        self.handled += 1


async def opened(worker: Worker, app: Any, **options: Any) -> tuple[EventContext, Response]:
    event = worker.event()
    request = incoming(URL, headers=options.get("headers"))
    response = await event.run(lambda: asgi.websocket(app, request, options.get("env")))
    assert isinstance(response, Response)
    return event, response


async def echo(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "websocket"
    assert await receive() == {"type": "websocket.connect"}
    await send({"type": "websocket.accept", "subprotocol": "chat", "headers": [(b"x-room", b"red")]})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", **{key: message[key] for key in message if key != "type"}})
    scope["env"].append(message)


async def test_app_echoes_until_the_client_closes(worker: Worker) -> None:
    ended: list[Any] = []
    event, response = await opened(worker, echo, env=ended)
    assert response.status == 101
    assert (response.headers["x-room"], response.headers["sec-websocket-protocol"]) == ("red", "chat")
    client = Client(response)
    for message in ("a", b"b", ""):
        client.say(message)
    await trio.testing.wait_all_tasks_blocked()
    assert client.got == ["a", b"b", ""]
    assert client.handled == 3
    client.receiver.close(4000, "bye")
    await event.finish()
    assert client.got[-1] == (4000, "bye")
    assert ended == [{"type": "websocket.disconnect", "code": 4000, "reason": "bye"}]


async def test_scope_describes_the_handshake(worker: Worker) -> None:
    seen: dict[str, Any] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.update(scope)
        await send({"type": "websocket.close"})

    headers = [(b"host", b"example.com"), (b"sec-websocket-protocol", b"chat.v1, chat.v2")]
    await opened(worker, app, headers=headers)
    assert (seen["type"], seen["scheme"], seen["path"], seen["query_string"]) == ("websocket", "ws", "/room", b"a=1")
    assert seen["subprotocols"] == ["chat.v1", "chat.v2"]
    assert "method" not in seen


async def test_close_instead_of_accept_is_403(worker: Worker) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.close", "code": 1008})

    event, response = await opened(worker, app)
    assert response.status == 403
    await event.finish()


async def test_app_that_fails_before_accepting_fails_the_handler(worker: Worker) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise KeyError("no such room")

    with pytest.raises(KeyError):
        await opened(worker, app)


async def test_app_that_fails_later_closes_with_1011(worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await receive()
        await receive()
        raise KeyError("broken")

    with caplog.at_level(logging.ERROR):
        event, response = await opened(worker, app)
        client = Client(response)
        client.say("go")
        await trio.testing.wait_all_tasks_blocked()
    assert client.got == [(1011, "")]
    assert "broken" in caplog.text
    client.receiver.close(1011, "")
    await event.finish()


async def test_app_that_returns_closes_normally(worker: Worker) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "bye"})

    event, response = await opened(worker, app)
    client = Client(response)
    await trio.testing.wait_all_tasks_blocked()
    assert client.got == ["bye", (1000, "")]
    client.receiver.close(1000, "")
    await event.finish()


async def test_sending_to_a_client_that_is_gone_raises(worker: Worker) -> None:
    raised: list[BaseException] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await receive()
        assert (await receive())["code"] == 1006
        assert (await receive())["code"] == 1006
        try:
            await send({"type": "websocket.send", "text": "anyone?"})
        except OSError as error:
            raised.append(error)
            raise

    event, response = await opened(worker, app)
    client = Client(response)
    client.receiver.lost(None)
    await event.finish()
    assert len(raised) == 1
    assert client.got == []


async def test_response_that_is_not_returned_ends_the_app(worker: Worker) -> None:
    ended: list[Any] = []
    event, response = await opened(worker, echo, env=ended)
    del response
    gc.collect()
    await event.finish()
    assert ended[0]["code"] == 1006
