"""What does a hibernating WebSocket keep in the memory of its isolate, and what does a message on one cost?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import trio

from bench.figure import Figure
from bench.isolates import isolates_of
from bench.processes import HERE, private_mb
from edge_runtime.limits import OBJECT_IDLE_MS
from edge_runtime.supervisor.isolate import IsolateHandle
from edge_runtime.supervisor.zygote import ZygoteHandle, start_zygote

WARM_UP = 100
SOCKETS = 1000
MESSAGES = 5000
_UPGRADE = (
    b"GET /room HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
_HELLO = b"\x81\x85" + bytes(4) + b"hello"
_ANSWER = b"\x81\x05hello"


def run() -> Iterator[Figure]:
    socket_kb, message_us = trio.run(_measure, start_zygote())
    yield Figure(f"memory of each of {SOCKETS} hibernating sockets", socket_kb, "kB", bound=30)
    yield Figure("message to a Durable Object and back, CPU", message_us, "us")


async def _measure(zygote: ZygoteHandle) -> tuple[float, float]:
    with ExitStack() as opened:
        async with isolates_of(HERE / "workers" / "sockets", zygote) as isolates:
            isolate = await isolates.fork()
            first = await _open(isolate, WARM_UP, opened)
            await _hibernate()
            before_mb = private_mb(isolate.pid)
            clients = [*first, *await _open(isolate, SOCKETS, opened)]
            await _hibernate()
            socket_kb = (private_mb(isolate.pid) - before_mb) * 1024 / SOCKETS
            for client in first:
                await _exchange(client)
            before_ms = isolate.cpu_ms()
            for number in range(MESSAGES):
                await _exchange(clients[number % len(clients)])
            return socket_kb, (isolate.cpu_ms() - before_ms) * 1000 / MESSAGES


async def _open(isolate: IsolateHandle, count: int, opened: ExitStack) -> list[trio.socket.SocketType]:
    clients = []
    listener = trio.socket.socket()
    with listener:
        await listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        for _ in range(count):
            client = opened.enter_context(trio.socket.socket())
            await client.connect(listener.getsockname())
            served, _ = await listener.accept()
            with served:
                await isolate.hand_over(served.fileno())
            await client.send(_UPGRADE)
            answer = await client.recv(4096)
            assert answer.startswith(b"HTTP/1.1 101"), answer
            clients.append(client)
    return clients


async def _hibernate() -> None:
    await trio.sleep(OBJECT_IDLE_MS / 1000 + 2)


async def _exchange(client: trio.socket.SocketType) -> None:
    await client.send(_HELLO)
    answer = await client.recv(100)
    assert answer == _ANSWER, answer
