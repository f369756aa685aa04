"""Functions and objects that a script passes by reference: who holds them, and their calls.

Whoever passes a function or an RpcTarget lends it: the other side gets a stub (`stubs`). The event that lent it stays
open as long as the stub is held, no longer than for `waitUntil`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, ClassVar, Final, Protocol, cast

from edge_runtime.event import EventContext, require_event
from edge_runtime.promise import Promise
from edge_runtime.workers.exports import rpc_methods
from edge_runtime.workers.js_object import JsException
from edge_runtime.workers.remote_errors import remote_error

OWNER_ENDED: Final = "The execution context which this RPC stub leads to has ended."


class RpcTarget:
    """Base of classes whose objects are passed by reference; callers may call their public methods."""


class Target(Protocol):
    """What a stub leads to, here or in another isolate. Arguments and results are in plain form."""

    def invoke(self, method: str | None, args: list[Any]) -> Promise[Any]:
        """Call a method, or the function itself. Calls begin in the order in which they were made."""

    def fetch(self, request: Any) -> Promise[Any]: ...

    def hold(self) -> None: ...

    def release(self) -> None:
        """There is one holder less."""


class Lent:
    """`Target` of a function or object of this isolate. Its code runs in the event that lent it.

    How arguments and results are converted is given by the class that `conversion` derives, which lends what it meets
    inside them.
    """

    _from_wire: ClassVar[staticmethod[[Any], Any]]
    _to_wire_result: ClassVar[staticmethod[[Any], Any]]

    def __init__(self, value: Any, event: EventContext | None) -> None:
        self._value = value
        self._event = event
        self._holders = 0
        self._unheld: Promise[None] | None = None
        self._over = False
        self._waiting: deque[tuple[EventContext, str | None, list[Any], Promise[Any]]] = deque()
        self._beginning = False

    def hold(self) -> None:
        self._holders += 1
        if self._unheld is None and self._event is not None:
            self._unheld = Promise()
            self._event.lend(self._unheld, self._end)

    def release(self) -> None:
        self._holders -= 1
        if not self._holders and self._unheld is not None:
            unheld, self._unheld = self._unheld, None
            unheld.resolve(None)

    def _end(self) -> None:
        self._over = True
        while self._waiting:
            self._waiting.popleft()[3].reject(JsException(OWNER_ENDED))

    def invoke(self, method: str | None, args: list[Any]) -> Promise[Any]:
        if self._over:
            return Promise.rejected(JsException(OWNER_ENDED))
        promise: Promise[Any] = Promise()
        event = self._event or require_event("a function received by RPC")
        self._waiting.append((event, method, args, promise))
        if not self._beginning:
            self._begin_next()
        return promise

    def fetch(self, request: Any) -> Promise[Any]:
        return self.invoke("fetch", [request])

    def _begin_next(self) -> None:
        self._beginning = bool(self._waiting)
        if self._waiting:
            event, method, args, promise = self._waiting.popleft()
            event.spawn(self._run, event, method, args, promise)

    async def _run(self, event: EventContext, method: str | None, args: list[Any], promise: Promise[Any]) -> None:
        try:
            if event.guard is not None:
                await event.guard.input_open()
            # The next one begins when this one has given up control.
            self._begin_next()
            result = await event.run(self._call, event, method, args)
            if event.actor is not None:
                await event.actor.wait_durable()
            if not promise.settled:
                promise.resolve(result)
        except Exception as error:
            if not promise.settled:
                promise.reject(remote_error(error))
        finally:
            if not promise.settled:
                promise.reject(JsException(OWNER_ENDED))

    async def _call(self, event: EventContext, method: str | None, args: list[Any]) -> Any:
        call = _call_plainly if event.guard is None else event.guard.call
        result = call(self._function(method), *map(self._from_wire, args))
        if hasattr(result, "__await__"):
            result = await result
        return self._to_wire_result(result)

    def _function(self, method: str | None) -> Callable[..., Any]:
        value = self._value
        if method is None and not isinstance(value, RpcTarget):
            function: Callable[..., Any] = value
            return function
        if isinstance(value, RpcTarget) and method in (*rpc_methods(cast(Hashable, type(value))), "fetch"):
            found: Callable[..., Any] | None = getattr(value, method, None)
            if found is not None:
                return found
        raise TypeError("The RPC receiver is not a function." if method is None else f"Method {method} does not exist")


def _call_plainly(fn: Callable[..., Any], *args: Any) -> Any:
    return fn(*args)
