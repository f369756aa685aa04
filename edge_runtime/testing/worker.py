"""`run_worker`: a worker in the process of its test, on a clock that jumps."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio
from trio.testing import MockClock

from edge_runtime.config.model import JsonValue
from edge_runtime.errors import UsageError
from edge_runtime.event import EventContext, EventKind, current_event
from edge_runtime.isolate.handlers.entrypoints import fetch_handler
from edge_runtime.store.memory_store import MemoryStore
from edge_runtime.testing.mocks import Mocks
from edge_runtime.testing.process import Process, open_process
from edge_runtime.testing.subject import Subject, open_script
from edge_runtime.testing.surroundings import Fetch, JumpingClock, SeededRandomness
from edge_runtime.workers.request import Request


class WorkerUnderTest:
    """A worker that runs: `env` has its bindings, `clock` is what it takes the time from, `store` what it has stored,
    `ended` the events that have ended, as (kind, name, outcome, detail)."""

    def __init__(self, process: Process, mocks: Mocks, store: MemoryStore) -> None:
        self._process = process
        self.mocks = mocks
        self.name = process.script.config.name
        self.introspected: set[str] = set()
        self.env: Any = process.env
        self.clock: JumpingClock = process.clock
        self.store = store
        self.ended = process.events.ended

    async def fetch(self, resource: Request | str, **options: Any) -> Any:
        """Have the worker's fetch handler answer a request; what it raises is raised here."""
        handler = fetch_handler(self._process.script.loaded) if self._has_handler else None
        if handler is None:
            raise UsageError("the worker under test has no fetch handler")
        request = resource if isinstance(resource, Request) and not options else Request(resource, **options)
        return await self.call(handler.call, request)

    @property
    def _has_handler(self) -> bool:
        exports = self._process.script.loaded.exports
        return exports.default is not None or "fetch" in exports.global_handlers

    def workflow_of(self, binding: object) -> str:
        """The name of the workflow behind an object of `env`, or behind a name in it."""
        return self._process.workflow_of(binding).workflow

    async def call(self, fn: Callable[..., Any], *args: object) -> Any:
        """Call `fn`, sync or async, as an event of its own."""
        return await self._process.handle(fn, *args)


@asynccontextmanager
async def run_worker(
    worker: Subject,
    *,
    vars: Mapping[str, JsonValue] | None = None,
    kv: Sequence[str] = (),
    fetch: Fetch | None = None,
    store: MemoryStore | None = None,
    seed: int = 0,
) -> AsyncIterator[WorkerUnderTest]:
    """Run a worker until the end of the block; the test may use its bindings there, as a handler may.

    The run must be on a clock that jumps: pytest-trio's fixture `autojump_clock`, or `edge_runtime.testing.run`. So a
    sleep of a year takes no time. Blocking callbacks run on the event loop's thread. `store` goes on with what an
    earlier worker has left in it: `run_worker(..., store=worker.store.crash())` is what follows a crash.

    Args:
        worker: see `Subject`. One worker at a time: its `env` is the process's.
        vars, kv: variables, and names of KV bindings for classes.
        fetch: answers the worker's outgoing requests.
        seed: of its randomness.
    """
    if not isinstance(trio.lowlevel.current_clock(), MockClock):
        raise UsageError(
            "run_worker needs a clock that jumps: take the fixture autojump_clock, or call edge_runtime.testing.run"
        )
    opened = MemoryStore() if store is None else store
    with open_script(worker, variables=vars, kv=kv) as script:
        mocks = Mocks()
        random = SeededRandomness(seed)
        async with open_process(script, opened, mocks, random=random, fetch=fetch) as process:
            mocks.process = process
            event: EventContext = process.events.begin(EventKind.FETCH, "test")
            token = current_event.set(event)
            try:
                yield WorkerUnderTest(process, mocks, opened)
            finally:
                current_event.reset(token)
