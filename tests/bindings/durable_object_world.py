"""A running host with one Durable Object class, and a caller's event to use its namespace from."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import trio
from seam_fakes import CountingRandomness

from bindings.durable_objects.factory import ObjectFactory
from bindings.durable_objects.namespace import DurableObjectNamespace
from bindings.durable_objects.object_class import ObjectClass
from bindings.durable_objects.sockets import NamespaceSockets
from edge_runtime.actors.api import ActorKind
from edge_runtime.actors.host import LocalActorHost
from edge_runtime.event import EventContext, EventKind, Outcome
from edge_runtime.isolate.events.socket_messages import WorkerSockets
from edge_runtime.isolate.trio_flavour import TrioFlavour
from edge_runtime.seams import Flavour
from edge_runtime.store.api import Store
from edge_runtime.store.memory_store import MemoryStore
from edge_runtime.testing.surroundings import JumpingClock, offload_inline
from edge_runtime.workers.websocket_recipient import SocketFlags

T = TypeVar("T")

WORKER = "shop"


class ZeroRandomness(CountingRandomness):
    """Jitter of nought, ids that count up."""

    def bytes(self, count: int) -> bytes:
        return bytes(2) if count == 2 else super().bytes(count)


class RecordedEvents:
    """Keeps (name, outcome) of each event in the order of their ends, and the tracebacks."""

    def __init__(self, nursery: trio.Nursery, flavour: Flavour) -> None:
        self._nursery = nursery
        self._flavour = flavour
        self._sockets = WorkerSockets(nursery, self, SocketFlags())
        self.open = 0
        self.ended: list[tuple[str, Outcome]] = []
        self.errors: list[str] = []

    def begin(self, kind: EventKind, name: str, *, actor: Any = None) -> EventContext:
        self.open += 1
        event = EventContext(kind, name, self._nursery, self._flavour, actor)
        event.sockets = self._sockets
        return event

    def acknowledge(self, event: EventContext, outcome: Outcome = Outcome.OK) -> None:
        pass

    def end(self, event: EventContext, outcome: Outcome = Outcome.OK, detail: str = "", error: str = "") -> None:
        self.open -= 1
        self.ended.append((event.name, outcome))
        if error:
            self.errors.append(error)
        if event.has_open_work:
            self._nursery.start_soon(event.finish)


class World:
    """Namespaces by class name in `ns`; `run(fn, *args)` calls a script's function as an event of its own."""

    def __init__(self, store: Store, events: RecordedEvents, host: LocalActorHost) -> None:
        self.store = store
        self.events = events
        self.host = host
        self.ns: dict[str, DurableObjectNamespace] = {}

    async def run(self, fn: Callable[..., Awaitable[T]], *args: object) -> T:
        event = self.events.begin(EventKind.FETCH, "Default.fetch")
        try:
            result: T = await event.run(fn, *args)
        finally:
            self.events.end(event)
        return result

    async def call(self, name: str, method: str, *args: Any, of: str | None = None, **options: Any) -> Any:
        """Call a method of the object `name` of the (first) class."""
        namespace = self.ns[of or next(iter(self.ns))]

        async def script() -> Any:
            return await getattr(namespace.getByName(name), method)(*args, **options)

        return await self.run(script)


@asynccontextmanager
async def world(
    *classes: type[Any],
    store: Store | None = None,
    flavour: Flavour | None = None,
    sqlite: bool = True,
    idle_ms: int = 10_000,
    auto_reply: bool = True,
) -> AsyncIterator[World]:
    async with trio.open_nursery() as nursery:
        events = RecordedEvents(nursery, flavour or TrioFlavour())
        used = MemoryStore() if store is None else store
        random = ZeroRandomness()
        host = LocalActorHost(used, JumpingClock(), random, offload_inline, events, WORKER)
        made = World(used, events, host)
        for cls in classes:
            of = ObjectClass(cls, made.ns, sqlite, True, SocketFlags(auto_reply=auto_reply))
            factory = ObjectFactory(of, idle_ms, NamespaceSockets(host, JumpingClock()))
            host.register(WORKER, ActorKind.OBJECT, cls.__name__, factory)
            made.ns[cls.__name__] = DurableObjectNamespace(host, random, WORKER, cls.__name__)
        await nursery.start(host.run)
        yield made
        nursery.cancel_scope.cancel()
