"""What stands around an actor host in tests: plain events, bodies that record."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import trio
from seam_fakes import CountingRandomness

from edge_runtime.actors.api import ActorAddress, ActorBody, ActorContext, ActorKind
from edge_runtime.actors.host import LocalActorHost
from edge_runtime.control import ActorDeath
from edge_runtime.event import EventContext, Outcome
from edge_runtime.isolate.trio_flavour import TrioFlavour
from edge_runtime.store.api import Batch, Store, Table
from edge_runtime.testing.surroundings import JumpingClock, RecordedEvents, offload_inline

T = TypeVar("T")

WORKER = "shop"


class EventsWithErrors(RecordedEvents):
    """Keeps the tracebacks of events too."""

    def __init__(self, nursery: trio.Nursery) -> None:
        super().__init__(nursery, TrioFlavour())
        self.errors: list[str] = []

    def end(self, event: EventContext, outcome: Outcome = Outcome.OK, detail: str = "", error: str = "") -> None:
        if error:
            self.errors.append(error)
        super().end(event, outcome, detail, error)


class FakeBody:
    """Does what a message says: a callable gets the body. Records starts, timers and stops in `log`."""

    def __init__(self, context: ActorContext, log: list[object]) -> None:
        self.context = context
        self.log = log
        self.busy = False
        self.gate = trio.Event()
        self.gate.set()
        self.on_timer: Callable[[FakeBody], Awaitable[None]] | None = None

    async def start(self) -> None:
        self.log.append("start")

    async def receive(self, message: Any) -> object:
        if callable(message):
            return await message(self)
        self.log.append(message)
        return message

    async def timer(self) -> None:
        self.log.append(("timer", self.context.clock.now_ms(), self.context.due_ms))
        if self.on_timer is not None:
            await self.on_timer(self)
            return
        batch = Batch()
        self.context.set_timer(batch, None)
        self.context.commit(batch)

    async def input_open(self) -> None:
        await self.gate.wait()

    async def stop(self) -> None:
        self.log.append("stop")

    answering = False

    @property
    def idle(self) -> bool:
        return not self.busy


class Bodies:
    """Makes bodies that share a log, and keeps them."""

    def __init__(self) -> None:
        self.log: list[object] = []
        self.made: list[FakeBody] = []

    def __call__(self, context) -> FakeBody:
        self.made.append(FakeBody(context, self.log))
        return self.made[-1]


class FakeFactory:
    def __init__(self, make: Callable[[ActorContext], ActorBody], idle_ms: int = 10_000) -> None:
        self._make = make
        self.idle_ms = idle_ms

    def __call__(self, context: ActorContext) -> ActorBody:
        return self._make(context)


def address(id: str = "a", namespace: str = "Fake", kind: ActorKind = ActorKind.OBJECT) -> ActorAddress:
    return ActorAddress(WORKER, kind, namespace, id)


@asynccontextmanager
async def running_host(
    store: Store,
    make: Callable[[ActorContext], ActorBody],
    *,
    idle_ms: int = 10_000,
    clock: JumpingClock | None = None,
    deaths: Sequence[ActorDeath] = (),
) -> AsyncIterator[LocalActorHost]:
    """A host with one namespace, "Fake", for objects and workflows; cancelled at the end. `deaths`: what it is told of
    earlier processes."""
    async with trio.open_nursery() as nursery:
        events = EventsWithErrors(nursery)
        host = LocalActorHost(store, clock or JumpingClock(), CountingRandomness(), offload_inline, events, WORKER)
        for kind in (ActorKind.OBJECT, ActorKind.WORKFLOW):
            host.register(WORKER, kind, "Fake", FakeFactory(make, idle_ms))
        host.learn_deaths(deaths)
        await nursery.start(host.run)
        yield host
        nursery.cancel_scope.cancel()


async def put(body: FakeBody, key: bytes, value: bytes = b"x") -> None:
    """Commit one value without waiting for it."""
    body.context.commit(Batch().put(Table.OBJECTS, key, value))
