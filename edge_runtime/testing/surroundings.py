"""What a worker has around it in a test: a clock that jumps, repeatable randomness, a network that is a function."""

from __future__ import annotations

import random
import uuid
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from edge_runtime.config.durations import parse_duration_ms
from edge_runtime.event import EventContext, EventKind, Outcome
from edge_runtime.seams import Flavour
from edge_runtime.workers.network import Hop, Net, Reply
from edge_runtime.workers.request import Request
from edge_runtime.workers.response import Response

T = TypeVar("T")

EPOCH_MS = 1_700_000_000_000

Fetch = Callable[[Request], Awaitable[Response]]
"""Answers the requests that a worker sends out with `fetch`."""


class JumpingClock:
    """`seams.Clock` on trio's clock, which must be one that jumps. The first moment is EPOCH_MS, in November 2023."""

    def __init__(self, shift_ms: int = 0) -> None:
        self.shift_ms = shift_ms
        """What passed while no process ran."""

    def now_ms(self) -> int:
        return EPOCH_MS + self.shift_ms + int(trio.current_time() * 1000)

    def monotonic_s(self) -> float:
        return trio.current_time()

    async def sleep_until_ms(self, due_ms: int) -> None:
        await trio.lowlevel.checkpoint()
        while (left_ms := due_ms - self.now_ms()) > 0:
            await trio.sleep(left_ms / 1000)

    async def advance(self, duration: int | float | str) -> None:
        """Let time pass: milliseconds, or text such as "3 days". What is due meanwhile happens."""
        await self.sleep_until_ms(self.now_ms() + parse_duration_ms(duration))


class SeededRandomness:
    """`seams.Randomness`, the same for the same seed."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)
        self._count = 0

    def bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)

    def uuid(self) -> str:
        return str(uuid.UUID(bytes=self._random.randbytes(16), version=4))

    def ordered_id(self) -> str:
        self._count += 1
        return f"00000000-0000-7000-8000-{self._count:012d}"


async def offload_inline(fn: Callable[..., T], /, *args: object) -> T:
    """`seams.Offload` without threads, which a clock that jumps would not wait for."""
    await trio.lowlevel.checkpoint()
    return fn(*args)


class FunctionNet:
    """`workers.network.Net` that asks a function; without one every request is refused."""

    def __init__(self, fetch: Fetch | None) -> None:
        self._fetch = fetch

    async def send(self, hop: Hop) -> Reply:
        await trio.lowlevel.checkpoint()
        if self._fetch is None:
            raise OSError(f"fetch() to {hop.url}: this test gives no function fetch= that answers it")
        pieces: list[bytes] = []
        if isinstance(hop.body, bytes):
            pieces.append(hop.body)
        elif hop.body is not None:
            await hop.body.write_to(_collector(pieces))
        request = Request._incoming(hop.method, hop.url, hop.headers, _giver(pieces) if pieces else None)
        response = await self._fetch(request)
        if not isinstance(response, Response):
            raise TypeError(f"fetch= returned {type(response).__name__}; allowed: a workers.Response")
        outgoing = response._outgoing()
        answer: list[bytes] = []
        if isinstance(outgoing.body, bytes):
            answer.append(outgoing.body)
        else:
            await outgoing.body.write_to(_collector(answer))
        headers = list(outgoing.headers_with_length)
        return Reply(outgoing.status, response.status_text, headers, _giver(answer), _nothing)

    async def upgrade(self, hop: Hop) -> Reply:
        raise OSError(f"a WebSocket to {hop.url}: tests of this kind have none to servers")


def _collector(pieces: list[bytes]) -> Callable[[bytes], Awaitable[None]]:
    async def write(piece: bytes) -> None:
        pieces.append(bytes(piece))

    return write


def _giver(pieces: list[bytes]) -> Callable[[], Awaitable[bytes | None]]:
    left = iter(piece for piece in pieces if piece)

    async def receive() -> bytes | None:
        return next(left, None)

    return receive


async def _nothing() -> None:
    return


class RecordedEvents:
    """`event.Events` that keeps the ends of events in `ended`: (kind, name, outcome, detail).

    `on_end` is told of each event that ends, where that is wanted.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        flavour: Flavour,
        net: Net | None = None,
        on_end: Callable[[EventContext, Outcome], None] | None = None,
    ) -> None:
        self._nursery = nursery
        self._flavour = flavour
        self._net = net
        self._on_end = on_end
        self.ended: list[tuple[EventKind, str, Outcome, str]] = []

    def begin(self, kind: EventKind, name: str, *, actor: object = None) -> EventContext:
        event = EventContext(kind, name, self._nursery, self._flavour, actor)
        event.net = self._net
        return event

    def acknowledge(self, event: EventContext, outcome: Outcome = Outcome.OK) -> None:
        pass

    def end(self, event: EventContext, outcome: Outcome = Outcome.OK, detail: str = "", error: str = "") -> None:
        self.ended.append((event.kind, event.name, outcome, detail))
        if self._on_end is not None:
            self._on_end(event, outcome)
        self._nursery.start_soon(event.finish)
