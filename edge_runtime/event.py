"""Event context: the span in which one event is processed and billed.

It owns the meter, the tasks that bindings start on the event's behalf, and the work given to `waitUntil`. One context
lasts from delivery until the last `waitUntil` has ended or its allowance is over.
"""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable, Callable, Coroutine
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import trio

from edge_runtime.errors import CpuLimitExceeded
from edge_runtime.limits import WAIT_UNTIL_MS
from edge_runtime.metering.measure import metered_call
from edge_runtime.metering.meter import Meter, user_meter
from edge_runtime.promise import Cancellable, OwnedPromise, Promise, settle

if TYPE_CHECKING:
    from edge_runtime.seams import Flavour

T = TypeVar("T")


class EventKind(StrEnum):
    FETCH = "fetch"
    SCHEDULED = "scheduled"
    ALARM = "alarm"
    RPC = "rpc"
    WEBSOCKET = "websocket"
    WORKFLOW = "workflow"
    STEP = "step"

    __hash__ = str.__hash__


class Outcome(StrEnum):
    """Cloudflare's event outcomes, as far as this runtime tells them apart. Source: workerd outcome.capnp."""

    OK = "ok"
    EXCEPTION = "exception"
    CANCELED = "canceled"
    EXCEEDED_CPU = "exceededCpu"
    EXCEEDED_MEMORY = "exceededMemory"
    EXCEEDED_WALL_TIME = "exceededWallTime"
    INTERNAL_ERROR = "internalError"
    """The process ended under the event: a crash, or somebody killed it."""

    # Usage is gathered by kind and outcome, and an Enum's own hash is a function in Python.
    __hash__ = str.__hash__


def outcome_of(error: BaseException) -> Outcome:
    """How an event ended whose code raised `error`."""
    if isinstance(error, BaseExceptionGroup):
        if error.subgroup(CpuLimitExceeded) is not None:
            return Outcome.EXCEEDED_CPU
        return Outcome.EXCEEDED_MEMORY if error.subgroup(MemoryError) is not None else Outcome.EXCEPTION
    if isinstance(error, CpuLimitExceeded):
        return Outcome.EXCEEDED_CPU
    return Outcome.EXCEEDED_MEMORY if isinstance(error, MemoryError) else Outcome.EXCEPTION


class EventContext:
    """One event. Made by the isolate for each delivery, ended with `finish`.

    `name` is the handler as the bill shows it: `Default.fetch`, `Counter.increment`, `order-flow/charge`.
    """

    __slots__ = (
        "_at_end", "_kept_open", "_lent", "_nursery", "_waiting", "_works", "actor", "charged_as", "failed_wait_until",
        "flavour", "guard", "kind", "meter", "name", "net", "open_fetches", "sockets", "subrequests_max", "transaction",
    )  # fmt: skip

    def __init__(
        self,
        kind: EventKind,
        name: str,
        nursery: trio.Nursery,
        flavour: Flavour,
        actor: Any = None,
        meter: Meter | None = None,
    ) -> None:
        self.kind = kind
        self.name = name
        self.flavour = flavour
        self.meter = Meter() if meter is None else meter
        self.actor = actor
        """The activated actor whose code this event runs, or None; its output gate holds what the event sends."""
        self.charged_as: Outcome | None = None
        """The outcome with which it is in the ledger; None: it is not there."""
        self.net: Any = None
        """The network for `fetch` (`workers.network.Net`); the isolate's, set when the event begins."""
        self.sockets: Any = None
        """What gives accepted WebSockets their events (`workers.websocket.Recipients`); set when the event begins."""
        self.subrequests_max: int | None = None
        self.open_fetches: trio.CapacityLimiter | None = None
        self.transaction: Any = None
        """Where what the event writes goes (`store.transaction.Transaction`), if it is to be committed with something
        else."""
        self.guard: Any = None
        """How code of the event's actor is entered from outside: `input_open()`, then `call(fn, *args)`."""
        self.failed_wait_until: list[BaseException] = []
        self._at_end: list[Callable[[], None]] | None = None
        self._lent: list[tuple[Promise[None], Callable[[], None]]] | None = None
        self._nursery = nursery
        self._works: set[Cancellable] | None = None
        self._waiting: list[Promise[object]] | None = None
        self._kept_open: list[Promise[None]] | None = None

    async def run(self, fn: Callable[..., Any], *args: object) -> Any:
        """Call a script's function, sync or async, as this event: metered, and with `current_event` set.

        What it returns is returned, what it raises is raised. A sync function runs on the event loop's thread.
        """
        outer_event = current_event.set(self)
        outer_meter = user_meter.set(self.meter)
        try:
            return await self.flavour.run(metered_call(self.meter, fn, args))
        finally:
            user_meter.reset(outer_meter)
            current_event.reset(outer_event)

    def spawn(self, fn: Callable[..., Awaitable[T]], *args: object) -> Promise[T]:
        """Begin work of a binding that cannot finish at once; it is cancelled when the event ends.

        Cancelling the only waiter of the promise cancels the work. The work is the runtime's, so not metered.
        """
        scope = trio.CancelScope()
        promise: Promise[T] = OwnedPromise(scope)
        if self._works is None:
            self._works = set()
        self._works.add(scope)
        context = contextvars.copy_context()
        context.run(user_meter.set, None)
        context.run(self._nursery.start_soon, self._work, scope, promise, fn, args)
        return promise

    def begin(self, fn: Callable[..., Coroutine[Any, Any, T]], *args: object) -> Promise[T]:
        """As `spawn(self.run, fn, *args)`, but the first step is taken now where the flavour can: what does not wait is
        over when this returns. For code that this event is running."""
        coro = fn(*args)
        promise = self.flavour.begin(coro, self.meter)
        if promise is None:
            coro.close()
            return self.spawn(self.run, fn, *args)
        if not promise.settled:
            scope = promise.owned_by
            assert scope is not None
            works = self._works = set() if self._works is None else self._works
            works.add(scope)
            promise.add_done_callback(lambda _: works.discard(scope))
        return promise

    def start(self, fn: Callable[..., Awaitable[None]], *args: object) -> None:
        """Begin a task of the runtime that tells of its end by itself: cheaper than `spawn`, with no promise, and not
        cancelled when the event ends. It must not raise."""
        outer = user_meter.set(None)
        try:
            self._nursery.start_soon(fn, *args)
        finally:
            user_meter.reset(outer)

    async def _work(
        self,
        scope: trio.CancelScope,
        promise: Promise[Any],
        fn: Callable[..., Awaitable[Any]],
        args: tuple[object, ...],
    ) -> None:
        with scope:
            await settle(promise, fn(*args))
        if self._works is not None:
            self._works.discard(scope)

    def wait_until(self, work: Awaitable[Any]) -> None:
        """Keep the event alive until `work` ends, at most `WAIT_UNTIL_MS` after the reply.

        A coroutine is started now and metered; a promise or future is awaited. Its failure is logged and changes
        nothing of the reply.
        """
        promise = work if isinstance(work, Promise) else self.spawn(self.run, _await_it, work)
        if self._waiting is None:
            self._waiting = []
        self._waiting.append(promise)

    def keep_open(self, over: Promise[None]) -> None:
        """Let the event last until `over` has settled, without a time limit: a connection that it serves."""
        if self._kept_open is None:
            self._kept_open = []
        self._kept_open.append(over)

    @property
    def has_open_work(self) -> bool:
        return bool(self._works or self._waiting or self._kept_open or self._at_end or self._lent)

    def at_end(self, callback: Callable[[], None]) -> None:
        """Call `callback()` when the event's own work has ended."""
        if self._at_end is None:
            self._at_end = []
        self._at_end.append(callback)

    def lend(self, returned: Promise[None], end: Callable[[], None]) -> None:
        """Keep the event alive for something of it that others hold, until it is `returned`, at most `WAIT_UNTIL_MS`
        after its own work; then call `end()`."""
        if self._lent is None:
            self._lent = []
        self._lent.append((returned, end))

    async def finish(self) -> None:
        """End the event: wait for its connections, drain `waitUntil`, let go of what others lent it and wait for what
        it lent, then cancel what is left. Call after the reply has gone."""
        try:
            await self._drain()
            self._let_go()
            if self._lent:
                with trio.move_on_after(WAIT_UNTIL_MS / 1000):
                    for returned, _ in self._lent:
                        await returned
        finally:
            self._let_go()
            lent, self._lent = self._lent, None
            for _, end in lent or ():
                end()
            for scope in self._works or ():
                scope.cancel()

    def _let_go(self) -> None:
        callbacks, self._at_end = self._at_end, None
        for callback in callbacks or ():
            callback()

    async def _drain(self) -> None:
        while self._kept_open:
            over = self._kept_open[0]
            await over
            self._kept_open.remove(over)
        if self._waiting:
            with trio.move_on_after(WAIT_UNTIL_MS / 1000):
                while self._waiting:
                    promise = self._waiting.pop()
                    try:
                        await promise
                    except trio.Cancelled:
                        raise
                    except BaseException as error:
                        self.failed_wait_until.append(error)
            self._waiting.clear()


class Events(Protocol):
    """Where events begin and end; the isolate's implementation accounts for them and logs them."""

    def begin(self, kind: EventKind, name: str, *, actor: Any = None) -> EventContext:
        """Open the context of one delivery."""

    def acknowledge(self, event: EventContext, outcome: Outcome = Outcome.OK) -> None:
        """What the event has done so far is to be told to somebody who will count on it, be it by an answer or by a
        commit: charge what it has used. May be called again; `end` charges the rest."""

    def end(self, event: EventContext, outcome: Outcome = Outcome.OK, detail: str = "", error: str = "") -> None:
        """The reply has gone (or there is none). Open `waitUntil` work goes on in the background; then the event is
        charged to the ledger and one log line is written. `detail` is for that line: "GET / 200"; `error` a
        traceback for the script's author.
        """


async def _await_it(work: Awaitable[T]) -> T:
    return await work


current_event: contextvars.ContextVar[EventContext | None] = contextvars.ContextVar("current_event", default=None)
"""The event whose code is running; None at import time and in the runtime's own tasks."""


def require_event(action: str) -> EventContext:
    """The current event; outside one, RuntimeError saying that `action` needs a handler around it."""
    event = current_event.get()
    if event is None:
        raise RuntimeError(
            f"{action} was called outside of an event: at import time and in threads that the script started there "
            "is no request to do it for; call it from a handler"
        )
    return event
