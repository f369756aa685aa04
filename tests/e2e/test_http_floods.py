"""Real servers under clients that mean harm or have gone wrong, served by either implementation of HTTP/1: the end
comes within its grace whatever they do, and their bytes do not pile up in the isolate."""

import os
import re
import socket
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import h2.connection
import pytest
import trio
from edge_process import EdgeProcess, eventually
from script_workers import write_worker

SCRIPT = """
import os

import trio
from js import WebSocketPair
from workers import Response, WorkerEntrypoint


async def endless():
    while True:
        yield bytes(64 * 1024)


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        path = request.url.partition("localhost")[2]
        print("began", path, flush=True)
        match path.rstrip("0123456789"):
            case "/wait" | "/wait-socket":
                await trio.sleep_forever()
            case "/endless":
                return Response(endless())
            case "/read":
                async for piece in request.body:
                    pass
            case "/socket":
                client, server = WebSocketPair.new()
                server.accept()
                server.onmessage = lambda event: server.send(event.data)
                return Response(None, status=101, web_socket=client)
            case "/pid":
                return Response(str(os.getpid()))
        return Response("ok")
"""
HOST = b" HTTP/1.1\r\nHost: localhost\r\n"
UPGRADE = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
KEY = b"dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
MIB = 1024 * 1024
PATIENCE_S = 240
"""Longer than a server may ever take; a client that it waited for would take for ever."""
HEAD_MAX = 100_000
PEAK_GROWTH_MAX = 64 * MIB


@pytest.fixture(params=["llhttp", "hypercorn"])
def edge(request, tmp_path):
    write_worker(tmp_path / "worker", SCRIPT, edge={"http1": request.param})
    with EdgeProcess("run", tmp_path / "worker", "--port", 0, "--data", tmp_path / "data", "--grace-s", 1) as edge:
        yield edge.wait_ready()


class Clients:
    """Clients of one server; what they do goes on for as long as the server lets them."""

    def __init__(self, edge, nursery, opened):
        self.edge = edge
        self._nursery = nursery
        self._opened = opened

    async def connect(self):
        return await trio.open_tcp_stream("127.0.0.1", self.edge.port)

    async def ask(self, target):
        async with await self.connect() as stream:
            await stream.send_all(b"GET " + target + HOST + b"Connection: close\r\n\r\n")
            data = b""
            while piece := await stream.receive_some(65536):
                data += piece
        return data.partition(b"\r\n\r\n")[2]

    async def sending(self, first, again=b"", pause_s=0.01, *, reads=False):
        """Send `first`, and then `again` for ever. What comes back is read slowly, if at all."""
        stream = await self._opened.enter_async_context(await self.connect())
        await stream.send_all(first)
        if again:
            self._nursery.start_soon(self._for_ever, stream.send_all, again, pause_s)
        if reads:
            self._nursery.start_soon(self._for_ever, stream.receive_some, 1024, pause_s)
        return stream

    async def _for_ever(self, act, argument, pause_s):
        try:
            while await act(argument) != b"":
                await trio.sleep(pause_s)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the server has had enough of it

    async def coming_back(self):
        """A client that connects again and again."""

        async def come_back():
            while True:
                try:
                    await self.ask(b"/again")
                except OSError:
                    await trio.sleep(0.01)
                except trio.BrokenResourceError:
                    pass

        self._nursery.start_soon(come_back)


@asynccontextmanager
async def clients_of(edge):
    with trio.fail_after(PATIENCE_S):
        async with AsyncExitStack() as opened, trio.open_nursery() as nursery:
            yield Clients(edge, nursery, opened)
            nursery.cancel_scope.cancel()


def http2_request(path):
    client = h2.connection.H2Connection()
    client.initiate_connection()
    headers = [(":method", "GET"), (":path", path), (":scheme", "http"), (":authority", "localhost")]
    client.send_headers(1, headers, end_stream=True)
    return client.data_to_send()


async def test_shutdown_ends_whatever_clients_do(edge):
    async with clients_of(edge) as clients:
        send = clients.sending
        await send(b"")
        await send(b"GET /silent" + HOST + b"\r\n")
        await send(b"GET /head" + HOST + b"X-Slow: ", b"a")
        await send(b"POST /read1" + HOST + b"Content-Length: 90000000\r\n\r\n", b"a" * 100)
        await send(b"POST /read2" + HOST + b"Transfer-Encoding: chunked\r\n\r\n", b"64\r\n" + b"a" * 100 + b"\r\n")
        await send(b"POST /wait3" + HOST + b"Transfer-Encoding: chunked\r\n\r\n", b"64\r\n" + b"a" * 100 + b"\r\n")
        await send(b"POST /unread" + HOST + b"Content-Length: 90000000\r\n\r\n", b"a" * 100)
        await send(b"POST /expect" + HOST + b"Content-Length: 9\r\nExpect: 100-continue\r\n\r\n")
        await send(b"GET /flood" + HOST + b"\r\n", b"GET /flood" + HOST + b"\r\n")
        await send(b"GET /flood" + HOST + b"\r\n", b"GET /flood" + HOST + b"\r\n", reads=True)
        await send(b"GET /endless4" + HOST + b"\r\n")
        await send(b"GET /endless5" + HOST + b"\r\n", reads=True)
        await send(b"GET /endless6" + HOST + b"\r\n", b"GET /flood" + HOST + b"\r\n", reads=True)
        half_closed = [await send(b"GET /%b" % path + HOST + b"\r\n") for path in (b"wait7", b"endless8")]
        await send(b"GET /wait9" + HOST + b"\r\n")
        await send(b"GET /wait-socket10" + HOST + UPGRADE + KEY)
        await send(b"GET /socket11" + HOST + UPGRADE + KEY)  # which will not answer the Close frame
        await send(b"GET /socket12" + HOST + UPGRADE + KEY, b"\x81\x85\0\0\0\0hello")
        await send(b"GET /socket13" + HOST + UPGRADE + KEY, b"\x01\x80\0\0\0\0", reads=True)  # a message without an end
        await send(b"GET /half-an-upgrade" + HOST + UPGRADE)
        await send(b"PRI * HTTP/2.0\r\n\r\n")
        await send(http2_request("/wait14"))
        await send(http2_request("/endless15"))
        await send(b"\x16\x03\x01\x02\x00\x01\x00")
        for stream in half_closed:
            await stream.send_eof()
        await clients.coming_back()
        for number in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15):
            await trio.to_thread.run_sync(edge.wait_for, rf"began \S+\D{number}$", PATIENCE_S)
        family = edge.family()
        assert await trio.to_thread.run_sync(edge.interrupt, PATIENCE_S) == 0
    assert "protocol handler failed" not in edge.output
    eventually(lambda: not [pid for pid in family if os.path.exists(f"/proc/{pid}")], PATIENCE_S)


def peak_memory(pid):
    found = re.search(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found[1]) * 1024


@pytest.mark.slow
async def test_flood_of_large_and_slow_requests_keeps_the_isolates_memory_bounded(edge):
    async with clients_of(edge) as clients:
        pid = int(await clients.ask(b"/pid"))
        before = peak_memory(pid)

        async def push(head, piece, size):
            """Send so much, or as much as is taken; returns how much that was."""
            sent = 0
            async with await clients.connect() as stream:
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)  # little is to be on its way
                try:
                    await stream.send_all(head)
                    while sent < size:
                        await stream.send_all(piece)
                        sent += len(piece)
                    while await stream.receive_some(65536):
                        pass
                except trio.BrokenResourceError:
                    pass  # cut off
            return sent

        chunked = b"Transfer-Encoding: chunked\r\n\r\n"
        chunk = b"40000\r\n" + bytes(256 * 1024) + b"\r\n"
        async with trio.open_nursery() as floods:
            for _ in range(10):
                floods.start_soon(push, b"POST /wait" + HOST + chunked, chunk, 50 * MIB)
                floods.start_soon(push, b"POST /unread" + HOST + chunked, chunk, 50 * MIB)
                floods.start_soon(push, b"GET /head" + HOST + b"X: ", b"a" * HEAD_MAX, HEAD_MAX)
                floods.start_soon(push, b"GET /endless" + HOST + b"\r\n", b"GET /more" + HOST + b"\r\n", MIB)
                floods.start_soon(push, b"GET /" + b"a" * 65536 + HOST, b"X: y\r\n", MIB)
                floods.start_soon(push, b"POST /read" + HOST + b"Content-Length: 10000000000\r\n\r\n", chunk, 50 * MIB)
            assert await push(b"POST /read" + HOST + chunked, chunk, 200 * MIB) < 200 * MIB
            assert peak_memory(pid) - before < PEAK_GROWTH_MAX
            assert await clients.ask(b"/pid") == str(pid).encode()
            floods.cancel_scope.cancel()
