"""The front door: what a kind of binding may answer before the worker's script sees a request.

The isolate asks it first, without knowing which kind it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from bindings.kind import BindingRuntime
from edge_runtime.config.model import Binding
from edge_runtime.workers.response import Response


class FrontDoor(Protocol):
    async def answer(self, method: str, target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> Response | None:
        """The response to a request that the script does not see; None: the request is the script's.

        `target` is the request line's, path and query still encoded; header names are in lower case. The body of the
        response is bytes or a stream of the runtime's own, never code of the script. A response to HEAD has no body
        and the length that the one to GET would have. Costs no event.
        """


@runtime_checkable
class HasFrontDoor(Protocol):
    """A kind of binding that may have a front door."""

    def front_door(self, binding: Binding, built: object | None, runtime: BindingRuntime) -> FrontDoor | None:
        """The front door of one binding, `built` being what `build` made of it; once per isolate, before serving."""
