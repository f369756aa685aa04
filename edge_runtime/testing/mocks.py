"""Mocks of steps, kept for one instance or for all of a workflow, and applied where the driver lets itself be
intercepted. A mocked step is recorded with its attempts as every other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import trio

from edge_runtime.actors.api import ActorAddress
from edge_runtime.errors import UsageError
from edge_runtime.event import EventContext
from edge_runtime.store.api import Batch
from edge_runtime.testing.process import Process
from edge_runtime.workers.js_object import JsException
from edge_runtime.workers.streams import ReadableStream
from edge_runtime.workflows.control import asking
from edge_runtime.workflows.core.effects import SleepRequested, StartAttempt, StepRequested, WaitRequested
from edge_runtime.workflows.core.requests import Request
from edge_runtime.workflows.script import payloads
from edge_runtime.workflows.script.errors import TIMEOUT

Step = tuple[str, int]
"""Name and index, from 1."""


class MockedStream:
    """The result of a mocked step that is a stream, to be read as often as the step is asked for."""

    def __init__(self, stream: ReadableStream) -> None:
        self._stream = stream
        self._data: bytes | None = None
        self._reading = trio.Lock()

    async def again(self) -> ReadableStream:
        async with self._reading:
            if self._data is None:
                self._data = await self._stream.read_all()
        return ReadableStream.of_bytes(self._data)


@dataclass(slots=True)
class Rules:
    """What is mocked. None among sleeps and delays: all of them."""

    sleeps: set[Step | None] = field(default_factory=set)
    delays: set[Step | None] = field(default_factory=set)
    event_timeouts: set[Step] = field(default_factory=set)
    results: dict[Step, Any] = field(default_factory=dict)
    errors: dict[Step, list[tuple[BaseException | None, float]]] = field(default_factory=dict)
    """In their order, each with how often it is still to be raised; None is the step's timeout."""
    events: list[tuple[str, Any]] = field(default_factory=list)
    """Not sent yet."""


class Mocks:
    """`workflows.attempts.interception.Interceptor`. Rules of an instance come before those of its workflow (id "")."""

    def __init__(self) -> None:
        self.process: Process | None = None
        self.rules: dict[tuple[str, str], Rules] = {}

    def of(self, workflow: str, id: str = "") -> Rules:
        return self.rules.setdefault((workflow, id), Rules())

    def _rules(self, address: ActorAddress) -> list[Rules]:
        found = [self.rules.get((address.namespace, id)) for id in (address.id, "")]
        return [rules for rules in found if rules is not None]

    def request(self, address: ActorAddress, request: Request) -> Request:
        step = (request.key.name, request.key.occurrence)
        for rules in self._rules(address):
            match request:
                case SleepRequested() if rules.sleeps & {step, None}:
                    return msgspec.structs.replace(request, due_ms=0)
                case StepRequested() if rules.delays & {step, None}:
                    config = msgspec.structs.replace(request.config, delay_ms=0)
                    return msgspec.structs.replace(request, config=config)
                case WaitRequested():
                    self._send(address, rules)
                    if step in rules.event_timeouts:
                        return msgspec.structs.replace(request, timeout_ms=0)
        return request

    def _send(self, address: ActorAddress, rules: Rules) -> None:
        """Send the mocked events; the instance has begun, so it can take them."""
        process, events = self.process, list(rules.events)
        if process is None or not events:
            return
        rules.events.clear()
        batch = Batch()
        with process.store.snapshot() as snapshot:
            for event_type, payload in events:
                asking.send_event(
                    batch,
                    snapshot,
                    address,
                    event_type,
                    payloads.encode(payload),
                    clock=process.clock,
                    random=process.random,
                )
        process.store.commit(batch).add_done_callback(lambda _: process.host.timers_changed())

    async def attempt(
        self, address: ActorAddress, event: EventContext, effect: StartAttempt, run: Callable[[], Awaitable[Any]]
    ) -> Any:
        step = (effect.key.name, effect.key.occurrence)
        if effect.undo is not None:
            return await run()
        for rules in self._rules(address):
            queue = rules.errors.get(step, [])
            if queue:
                error, left = queue.pop(0)
                if left > 1:
                    queue.insert(0, (error, left - 1))
                raise timed_out(effect) if error is None else error
            if step in rules.results:
                result = rules.results[step]
                return await result.again() if isinstance(result, MockedStream) else result
        return await run()


def read_step(given: object) -> Step:
    """A step as Cloudflare names it: {"name": ..., "index": 1}; a name alone is the first of that name."""
    if isinstance(given, str):
        return given, 1
    if isinstance(given, dict) and isinstance(given.get("name"), str) and set(given) <= {"name", "index"}:
        return given["name"], int(given.get("index") or 1)
    raise UsageError(f'step: found {given!r}; allowed: a name, or {{"name": ..., "index": 1}}')


def timed_out(effect: StartAttempt) -> JsException:
    return JsException(f"Execution timed out after {effect.config.timeout_ms}ms", TIMEOUT)
