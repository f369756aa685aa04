"""An ASGI app run for one request or WebSocket: through its lifespan, in whatever way that ends."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, Protocol, TypeAlias

from edge_runtime.compat.anyio_threads import adjust_anyio
from edge_runtime.compat.lifespan import Lifespan, is_cancellation

Message: TypeAlias = MutableMapping[str, Any]


class Conversation(Protocol):
    """What an app is run for."""

    async def receive(self) -> Message:
        """The app's next event."""

    async def send(self, message: Message) -> None:
        """Take what the app answers."""

    def returned(self) -> None:
        """The app has returned. Raises if it may not have done so yet."""

    def failed(self, error: BaseException) -> None:
        """Give an error, of the app or of its startup, to who waits for an answer; log it if nobody does.

        Called again with the same cancellation while that passes.
        """

    def over(self) -> None:
        """The app receives and sends nothing more."""


async def run_app(app: Any, scope: dict[str, Any], conversation: Conversation) -> None:
    """Run an app through one life of it. Raises nothing but cancellation."""

    async def serve(state: dict[str, Any]) -> None:
        scope["state"] = state
        adjust_anyio()
        try:
            await app(scope, conversation.receive, conversation.send)
            conversation.returned()
        except BaseException as error:
            conversation.failed(error)
            if is_cancellation(error):
                raise
        finally:
            conversation.over()

    try:
        await Lifespan(app, serve).run()
    except BaseException as error:
        conversation.failed(error)
        if is_cancellation(error):
            raise
