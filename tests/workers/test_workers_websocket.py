"""WebSocketPair as scripts use it within one event."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing
from script_event import open_event

from edge_runtime.event import EventContext
from edge_runtime.workers.blob import Blob
from edge_runtime.workers.buffers import ArrayBuffer, Uint8Array
from edge_runtime.workers.response import JsResponse, Response
from edge_runtime.workers.websocket import WebSocket
from edge_runtime.workers.websocket_pair import WebSocketPair
from edge_runtime.workers.websocket_recipient import SocketFlags

settled = trio.testing.wait_all_tasks_blocked


class InlineRecipients:
    """Calls listeners once `run` is called."""

    def __init__(self, flags: SocketFlags) -> None:
        self.flags = flags
        self.calls: deque[tuple[Callable[[], Any], Callable[[], object]]] = deque()

    def recipient(self, event: EventContext, socket: WebSocket) -> InlineRecipients:
        return self

    def deliver(self, call: Callable[[], Any], handled: Callable[[], object]) -> None:
        self.calls.append((call, handled))

    async def run(self) -> None:
        while self.calls:
            call, handled = self.calls.popleft()
            result = call()
            if result is not None:
                await result
            handled()


async def in_event(script: Callable[[InlineRecipients], Any], flags: SocketFlags | None = None) -> Any:
    async with open_event() as event:
        event.sockets = InlineRecipients(flags or SocketFlags())
        result = await event.run(script, event.sockets)
        event._kept_open = None
        return result


async def test_both_ways_of_taking_a_pair_apart() -> None:
    async def script(_: InlineRecipients) -> None:
        for pair in (WebSocketPair.new(), WebSocketPair.new().object_values()):
            client, server = pair
            assert isinstance(client, WebSocket)
            assert client is not server
        pair = WebSocketPair.new()
        assert pair["0"] is pair[0] is pair.object_values()[0]

    await in_event(script)


async def test_messages_cross_in_order_and_wait_for_accept() -> None:
    async def script(sockets: InlineRecipients) -> None:
        one, two = WebSocketPair.new()
        got: list[Any] = []
        one.accept()
        one.send("a")
        one.send(Uint8Array.new([1, 2]))
        two.addEventListener("message", lambda event: got.append(event.data))
        two.accept()
        one.send("b")
        await sockets.run()
        assert got == ["a", ArrayBuffer(b"\x01\x02"), "b"]
        one.close(4000, "over")
        two.addEventListener("close", lambda event: got.append((event.code, event.reason, two.readyState)))
        await sockets.run()
        assert got[-1] == (4000, "over", WebSocket.CLOSED)
        assert one.readyState == WebSocket.CLOSED

    await in_event(script)


async def test_listeners_sync_async_once_and_removed() -> None:
    async def script(sockets: InlineRecipients) -> None:
        one, two = WebSocketPair.new()
        got: list[str] = []

        async def later(event: Any) -> None:
            await trio.lowlevel.checkpoint()
            got.append("async")

        def removed(event: Any) -> None:
            got.append("removed")

        def failing(event: Any) -> None:
            raise KeyError("one")

        two.addEventListener("message", later)
        two.addEventListener("message", later)
        two.addEventListener("message", lambda event: got.append("once"), {"once": True})
        two.addEventListener("message", removed)
        two.removeEventListener("message", removed)
        two.onmessage = lambda event: got.append("on")
        one.accept()
        two.accept()
        one.send("1")
        one.send("2")
        await sockets.run()
        assert got == ["on", "once", "async", "on", "async"]
        two.onmessage = failing
        one.send("3")
        with pytest.raises(KeyError):
            await sockets.run()
        assert got[5:] == ["async"]
        with pytest.raises(TypeError, match="addEventListener"):
            two.addEventListener("message", 5)

    await in_event(script)


@pytest.mark.parametrize(("flags", "kind"), [(SocketFlags(blobs=True), Blob), (SocketFlags(blobs=False), ArrayBuffer)])
async def test_binary_type_decides_what_listeners_get(flags: SocketFlags, kind: type) -> None:
    async def script(sockets: InlineRecipients) -> None:
        one, two = WebSocketPair.new()
        got: list[Any] = []
        two.onmessage = lambda event: got.append(event.data)
        one.accept()
        two.accept()
        one.send(b"x")
        await sockets.run()
        two.binaryType = "blob" if kind is ArrayBuffer else "arraybuffer"
        one.send(b"x")
        await sockets.run()
        assert [type(data) for data in got] == [kind, ArrayBuffer if kind is Blob else Blob]

    await in_event(script, flags)


async def test_half_open_socket_closes_when_the_script_says_so() -> None:
    async def script(sockets: InlineRecipients) -> None:
        one, two = WebSocketPair.new()
        one.accept()
        two.accept(allowHalfOpen=True)
        one.close(1000)
        await sockets.run()
        assert (one.readyState, two.readyState) == (WebSocket.CLOSING, WebSocket.CLOSING)
        two.send("still allowed")
        two.close(1001)
        await sockets.run()
        assert (one.readyState, two.readyState) == (WebSocket.CLOSED, WebSocket.CLOSED)

    await in_event(script)


async def test_misuse_is_refused_in_cloudflares_words() -> None:
    async def script(_: InlineRecipients) -> None:
        one, two = WebSocketPair.new()
        with pytest.raises(TypeError, match=r"You must call one of accept\(\) or state.acceptWebSocket\(\)"):
            one.send("a")
        one.accept()
        one.accept()
        with pytest.raises(TypeError, match="text or binary data, not dict"):
            one.send({})
        for code in (999, 5000, 1005, 1006, 1015):
            with pytest.raises(TypeError, match=f"Invalid WebSocket close code: {code}."):
                one.close(code)
        with pytest.raises(TypeError, match="you must also specify a code"):
            one.close(reason="why")
        one.close(1000)
        one.close(1000)
        with pytest.raises(TypeError, match=r"Can't call WebSocket send\(\) after close\(\)\."):
            one.send("a")
        with pytest.raises(TypeError, match="Invalid WebSocket close code: 5000"):
            one.close(5000)
        two.accept()

    await in_event(script)


async def test_response_with_a_socket_has_status_101_and_nothing_else_will_do() -> None:
    async def script(_: InlineRecipients) -> None:
        client, _server = WebSocketPair.new()
        response = Response(None, status=101, web_socket=client)
        assert response.web_socket is client
        assert JsResponse.new(None, {"status": 101, "webSocket": client}).webSocket is client
        for status in (None, 200):
            with pytest.raises(ValueError, match="must have status code 101"):
                Response(None, status=status, web_socket=client)
        with pytest.raises(TypeError, match="an end of a WebSocketPair, not str"):
            Response(None, status=101, web_socket="client")

    await in_event(script)


async def test_lone_surrogates_become_replacement_characters() -> None:
    async def script(sockets: InlineRecipients) -> None:
        one, two = WebSocketPair.new()
        got: list[str] = []
        two.onmessage = lambda event: got.append(event.data)
        one.accept()
        two.accept()
        one.send("a\ud800b")
        await sockets.run()
        assert got == ["a\ufffdb"]

    await in_event(script)
