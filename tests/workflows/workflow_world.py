"""An isolate reduced to what a workflow needs: a store that can crash, the real actor host, and a clock that jumps."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import trio
from seam_fakes import CountingRandomness

from bindings.workflows.access import WorkflowAccess
from bindings.workflows.namespace import WorkflowNamespace
from edge_runtime.actors.api import ActorKind
from edge_runtime.actors.host import LocalActorHost
from edge_runtime.control import ActorDeath
from edge_runtime.event import EventKind
from edge_runtime.isolate.trio_flavour import TrioFlavour
from edge_runtime.seams import Flavour, Offload
from edge_runtime.store.memory_store import MemoryStore
from edge_runtime.testing.surroundings import JumpingClock, RecordedEvents, offload_inline
from edge_runtime.workers.entrypoints import WorkflowEntrypoint
from edge_runtime.workflows.control import asking
from edge_runtime.workflows.control.describe import Description, describe
from edge_runtime.workflows.instance.definition import WorkflowDefinition
from edge_runtime.workflows.instance.factory import WorkflowFactory
from edge_runtime.workflows.stored import instances

T = TypeVar("T")

WORKER = "shop"
WORKFLOW = "order-flow"


def flow(run: Callable[[Any, Any], Awaitable[Any]]) -> type[WorkflowEntrypoint]:
    """A workflow of `run(event, step)`."""

    class Flow(WorkflowEntrypoint):
        async def run(self, event: Any, step: Any) -> Any:
            return await run(event, step)

    return Flow


ENDS = ("complete", "errored", "terminated")


def flow_that_ends(end: str) -> type[WorkflowEntrypoint]:
    """One whose instance ends as one of ENDS, with `World.bring_to` the same."""

    async def run(event: Any, step: Any) -> None:
        if end == "errored":
            raise ValueError("no")
        if end == "terminated":
            await step.sleep("day", "1 day")

    return flow(run)


class World:
    """One process: its actors, and one workflow."""

    def __init__(
        self,
        nursery: trio.Nursery,
        entrypoint: type[WorkflowEntrypoint],
        store: MemoryStore,
        flavour: Flavour,
        clock: JumpingClock,
        random: CountingRandomness,
        *,
        implicit: bool,
        idle_ms: int,
        steps_max: int,
        strict: bool,
        version: str,
        offload: Offload,
    ) -> None:
        self.store = store
        self.clock = clock
        self.events = RecordedEvents(nursery, flavour)
        self.host = LocalActorHost(store, clock, random, offload, self.events, WORKER)
        definition = WorkflowDefinition(
            WORKFLOW,
            entrypoint,
            env=None,
            implicit_dependencies=implicit,
            steps_max=steps_max,
            strict=strict,
            version=version,
        )
        factory = WorkflowFactory(definition, idle_ms, death_of=self.host.death_of)
        self.host.register(WORKER, ActorKind.WORKFLOW, WORKFLOW, factory)
        access = WorkflowAccess(WORKER, WORKFLOW, store=store, clock=clock, random=random, actors=self.host)
        self.namespace = WorkflowNamespace(access)

    async def handler(self, fn: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Run `fn` as a fetch handler would be."""
        event = self.events.begin(EventKind.FETCH, "Default.fetch")
        result: T = await event.run(fn, *args)
        return result

    async def create(self, id: str = "one", params: Any = None, **options: Any) -> None:
        async def fetch() -> None:
            await self.namespace.create(id=id, params=params, **options)

        await self.handler(fetch)

    async def send(self, event_type: str, payload: Any = None, id: str = "one") -> None:
        async def fetch() -> None:
            instance = await self.namespace.get(id)
            await instance.send_event({"type": event_type, "payload": payload})

        await self.handler(fetch)

    async def terminate(self, id: str = "one") -> None:
        async def fetch() -> None:
            await (await self.namespace.get(id)).terminate()

        await self.handler(fetch)

    async def bring_to(self, end: str) -> None:
        """Create an instance of `flow_that_ends(end)` and see to its end."""
        await self.create()
        if end == "terminated":
            await self.settled("one", "waiting")
            await self.terminate()
        await self.settled("one", end)

    async def status(self, id: str = "one") -> Any:
        async def fetch() -> Any:
            return await (await self.namespace.get(id)).status()

        return await self.handler(fetch)

    async def settled(self, id: str = "one", *wanted: str) -> Any:
        """The status once it is final, or one of `wanted`."""
        until = wanted or ENDS
        pause_s = 0.01
        while (status := await self.status(id))["status"] not in until:
            await trio.sleep(pause_s)
            pause_s = min(2 * pause_s, 60)
        return status

    def describe(self, id: str = "one") -> Description:
        address = instances.address_of(WORKER, WORKFLOW, id)
        with self.store.snapshot() as snapshot:
            return describe(snapshot, address, asking.find(snapshot, address))


@asynccontextmanager
async def open_world(
    entrypoint: type[WorkflowEntrypoint],
    store: MemoryStore | None = None,
    *,
    flavour: Flavour | None = None,
    clock: JumpingClock | None = None,
    random: CountingRandomness | None = None,
    implicit: bool = True,
    idle_ms: int = 300_000,
    steps_max: int = 10_000,
    strict: bool = True,
    version: str = "v1",
    offload: Offload = offload_inline,
    deaths: Sequence[ActorDeath] = (),
) -> AsyncIterator[World]:
    """A running process. Leaving the block cancels everything in it, as a kill would; the store stays. `deaths`: what
    it is told of those before it."""
    async with trio.open_nursery() as nursery:
        world = World(
            nursery,
            entrypoint,
            MemoryStore() if store is None else store,
            flavour or TrioFlavour(),
            clock or JumpingClock(),
            random or CountingRandomness(),
            implicit=implicit,
            idle_ms=idle_ms,
            steps_max=steps_max,
            strict=strict,
            version=version,
            offload=offload,
        )
        world.host.learn_deaths(deaths)
        await nursery.start(world.host.run)
        yield world
        nursery.cancel_scope.cancel()
