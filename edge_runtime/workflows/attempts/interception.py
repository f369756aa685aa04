"""A seam around what a script asks of its steps: whoever runs a workflow may change a request or answer an attempt.

Passed in with the workflow's definition; without one the driver takes no notice. The testing kit mocks steps with it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from edge_runtime.actors.api import ActorAddress
from edge_runtime.event import EventContext
from edge_runtime.workflows.core.effects import StartAttempt
from edge_runtime.workflows.core.requests import Request


class Interceptor(Protocol):
    def request(self, address: ActorAddress, request: Request) -> Request:
        """What the script asks for, before the engine sees it. Key, position and fingerprint must stay as they are, and
        at each replay the answer must be the same."""

    async def attempt(
        self, address: ActorAddress, event: EventContext, effect: StartAttempt, run: Callable[[], Awaitable[Any]]
    ) -> Any:
        """One attempt of a step or of a rollback handler: `run` calls the script. What this returns or raises is what
        the attempt returns or raises, and its timeout applies. `event` is what the attempt is billed as."""
