"""One process of a worker, inside of the test's: the real actor host and bindings on a store in memory."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import trio

from bindings.kind import BindingKind, BindingRuntime, load_kinds
from bindings.workflows.kind import WorkflowSpec
from edge_runtime.actors.api import ActorKind, BodyFactory
from edge_runtime.actors.host import LocalActorHost
from edge_runtime.config.model import Binding
from edge_runtime.errors import UsageError
from edge_runtime.event import EventContext, EventKind, Events, Outcome
from edge_runtime.isolate.asyncio_flavour import open_asyncio_flavour
from edge_runtime.isolate.trio_flavour import TrioFlavour
from edge_runtime.limits import ACTOR_SWEEP_S
from edge_runtime.seams import Clock, Flavour, Offload, Randomness
from edge_runtime.store.api import Store
from edge_runtime.store.transaction import EventStore
from edge_runtime.testing.subject import Script
from edge_runtime.testing.surroundings import (
    Fetch,
    FunctionNet,
    JumpingClock,
    RecordedEvents,
    SeededRandomness,
    offload_inline,
)
from edge_runtime.workers.environment import env, fill_env
from edge_runtime.workflows.attempts.interception import Interceptor
from edge_runtime.workflows.instance.factory import WorkflowFactory

NEVER: Final = -1
"""As `idle_ms`: actors stay in memory as long as the process lives."""


class _Host(LocalActorHost):
    """Gives the workflows that are registered the test's interceptor."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        random: Randomness,
        offload: Offload,
        events: Events,
        worker: str,
        interceptor: Interceptor,
        idle_ms: int | None,
    ) -> None:
        sweep_s = math.inf if idle_ms == NEVER else ACTOR_SWEEP_S
        super().__init__(store, clock, random, offload, events, worker, sweep_s)
        self._interceptor = interceptor
        self._idle_ms = idle_ms

    def register(self, worker: str, kind: ActorKind, namespace: str, factory: BodyFactory) -> None:
        if isinstance(factory, WorkflowFactory):
            idle_ms = factory.idle_ms if self._idle_ms is None else self._idle_ms
            factory = factory.intercepted(self._interceptor, idle_ms)
        super().register(worker, kind, namespace, factory)


class Process:
    """A worker that runs. `workflow_of` finds what a binding of `env` stands for."""

    def __init__(
        self,
        script: Script,
        store: Store,
        clock: JumpingClock,
        host: LocalActorHost,
        events: RecordedEvents,
        random: Randomness,
    ) -> None:
        self.script = script
        self.store = store
        self.clock = clock
        self.host = host
        self.events = events
        self.random = random
        self.env = env

    async def handle(self, fn: Callable[..., Any], *args: object) -> Any:
        """Call `fn`, sync or async, as a handler would be called: bindings can be used in it."""
        event = self.events.begin(EventKind.FETCH, "test")
        try:
            return await event.run(fn, *args)
        finally:
            self.events.end(event)

    def workflow_of(self, binding: object) -> WorkflowSpec:
        """The workflow behind an object of `env`, or behind a name in it."""
        specs = {
            found.name: found.spec
            for found in self.script.config.bindings
            if isinstance(found.spec, WorkflowSpec) and found.spec.worker == self.script.config.name
        }
        for name, spec in specs.items():
            if binding == name or binding is self.env.__dict__.get(name):
                return spec
        raise UsageError(f"{binding!r} is no workflow of this worker; it has {', '.join(specs) or 'none'}")


class _NoNeighbours:
    """`bindings.kind.Neighbourhood` of a worker that runs alone."""

    def namespace(self, worker: str, kind: ActorKind, cls: str) -> str:
        raise UsageError(f"there is no worker {worker} in this test, which runs one worker alone")


@asynccontextmanager
async def open_process(
    script: Script,
    store: Store,
    interceptor: Interceptor,
    *,
    clock: JumpingClock | None = None,
    random: Randomness | None = None,
    fetch: Fetch | None = None,
    on_end: Callable[[EventContext, Outcome], None] | None = None,
    idle_ms: int | None = None,
) -> AsyncIterator[Process]:
    """Leaving the block cancels everything in the process, as its end would; the store stays."""
    clock = clock or JumpingClock()
    random = random or SeededRandomness()
    config = script.config
    script.begin()
    async with AsyncExitStack() as stack:
        flavour: Flavour = TrioFlavour()
        if config.flavour == "asyncio":
            flavour = await stack.enter_async_context(open_asyncio_flavour())
        nursery = await stack.enter_async_context(trio.open_nursery())
        events = RecordedEvents(nursery, flavour, FunctionNet(fetch), on_end)
        host = _Host(store, clock, random, offload_inline, events, config.name, interceptor, idle_ms)
        runtime = BindingRuntime(
            worker=config,
            version="",
            store=EventStore(store),
            clock=clock,
            random=random,
            offload=offload_inline,
            flavour=flavour,
            events=events,
            actors=host,
            exports=script.exports,
            env=env,
            development=True,
            neighbours=_NoNeighbours(),
        )
        used: list[tuple[BindingKind, list[Binding]]] = []
        for kind in load_kinds():
            bindings = [binding for binding in config.bindings if binding.kind == kind.name]
            for binding in bindings:
                made = kind.build(binding, runtime)
                if binding.name:
                    fill_env(env, {binding.name: made})
            if bindings:
                used.append((kind, bindings))
        await nursery.start(host.run)
        for kind, bindings in used:
            nursery.start_soon(kind.serve, bindings, runtime)
        try:
            yield Process(script, store, clock, host, events, random)
        finally:
            nursery.cancel_scope.cancel()
