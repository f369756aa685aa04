"""What the bodies of steps did, seen from outside of the store: each attempt that began, and what it noted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from edge_runtime.actors.api import ActorAddress
from edge_runtime.event import EventContext, EventKind, Outcome, current_event
from edge_runtime.workflows.core.effects import StartAttempt
from edge_runtime.workflows.core.requests import Request


@dataclass(eq=False, slots=True)
class Began:
    """An attempt that called the script."""

    step: str
    attempt: int
    process: int
    notes: list[str] = field(default_factory=list)
    billed: list[Outcome] = field(default_factory=list)
    """One outcome for each time that the attempt was charged, which is to be once."""


_attempt: ContextVar[Began | None] = ContextVar("attempt_under_test", default=None)


class Witness:
    """Counts side effects. Call `note("card charged")` where a script, or what stands for an outside service, has one;
    notes of different runs are kept apart."""

    def __init__(self) -> None:
        self.outside: list[str] = []
        """Notes of `run` itself, which a replay repeats."""
        self.elsewhere: list[str] = []
        """Notes of Durable Objects and handlers."""

    def note(self, text: str) -> None:
        began, event = _attempt.get(), current_event.get()
        if began is not None:
            began.notes.append(text)
        elif event is not None and event.kind is EventKind.WORKFLOW:
            self.outside.append(text)
        else:
            self.elsewhere.append(text)

    def clear(self) -> None:
        self.outside.clear()
        self.elsewhere.clear()


class AttemptLog:
    """`workflows.attempts.interception.Interceptor` that changes nothing and writes down every attempt."""

    def __init__(self) -> None:
        self.begun: list[Began] = []
        self.process = 0
        self._by_event: dict[int, tuple[EventContext, Began]] = {}

    def request(self, address: ActorAddress, request: Request) -> Request:
        return request

    async def attempt(
        self, address: ActorAddress, event: EventContext, effect: StartAttempt, run: Callable[[], Awaitable[Any]]
    ) -> Any:
        began = Began(str(effect.key), effect.attempt, self.process)
        self.begun.append(began)
        self._by_event[id(event)] = event, began
        token = _attempt.set(began)
        try:
            return await run()
        finally:
            _attempt.reset(token)

    def ended(self, event: EventContext, outcome: Outcome) -> None:
        known = self._by_event.get(id(event))
        if known is not None:
            known[1].billed.append(outcome)
