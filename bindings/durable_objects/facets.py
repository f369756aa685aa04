"""`ctx.facets`: objects within an object. Each has a class, a storage and gates of its own, and lives where its parent
lives and no longer than it; callers reach it through the parent only. Source: workerd api/actor-state.c++.

A facet is an actor; `facet_addresses` says which.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import trio

from bindings.durable_objects.facet_addresses import (
    copy_stored,
    delete_stored,
    delete_stored_within,
    facet_address,
    is_within,
)
from bindings.durable_objects.gated import call_gated, gate_inside
from bindings.durable_objects.messages import FetchCall, RpcCall
from bindings.durable_objects.namespace import DurableObjectNamespace
from bindings.durable_objects.object_class import ObjectClass
from bindings.durable_objects.stub import RESERVED, reserved
from edge_runtime.actors.api import ActorAddress, ActorBody, ActorContext, ActorHost, ActorKind
from edge_runtime.actors.gates import InputGate
from edge_runtime.actors.ids import DurableObjectId
from edge_runtime.errors import ActorBroken
from edge_runtime.event import EventContext, EventKind, Outcome, current_event
from edge_runtime.limits import FACET_DEPTH_MAX, FACET_NAME_MAX
from edge_runtime.promise import Promise
from edge_runtime.store.api import Batch
from edge_runtime.tracebacks import script_traceback
from edge_runtime.workers.conversion import RpcStub
from edge_runtime.workers.entrypoints import DurableObject
from edge_runtime.workers.js_object import JsException
from edge_runtime.workers.lending import Target
from edge_runtime.workers.stubs import pass_on

NO_ALARMS: Final = "Facets currently cannot set alarms."
DELETED: Final = "Facet was deleted."
_NOT_SERIALIZABLE: Final = "Stubs pointing to Durable Object facets are not serializable."
CLONED_OVER: Final = "Facet was cloned-over."
_ENDED: Final = "The object that this facet belongs to is no longer in memory."


@dataclass(frozen=True, slots=True)
class FacetStart:
    """How a facet is to run, as its parent has said."""

    of: ObjectClass
    id: DurableObjectId | str
    parent: Facets
    name: str


class FacetFactory:
    """`actors.api.BodyFactory` of all facets of one class's objects."""

    def __init__(
        self, host: ActorHost, idle_ms: int, make_body: Callable[[ActorContext, FacetStart], ActorBody]
    ) -> None:
        self.host = host
        self.idle_ms = idle_ms
        self.starts: dict[ActorAddress, FacetStart] = {}
        self.running: dict[ActorAddress, ActorContext] = {}
        self._make_body = make_body
        self._registered = False

    def __call__(self, context: ActorContext) -> ActorBody:
        start = self.starts.get(context.address)
        if start is None:
            raise ActorBroken(_ENDED)
        start.parent.began(start.name, context)
        self.running[context.address] = context
        context.closed.add_done_callback(partial(self._ended, context))
        return self._make_body(context, start)

    def _ended(self, context: ActorContext, _: Promise[None]) -> None:
        if self.running.get(context.address) is context:
            del self.running[context.address]

    def reachable(self, worker: str, namespace: str) -> None:
        if not self._registered:
            self._registered = True
            self.host.register(worker, ActorKind.OBJECT, namespace, self)


class FacetStub(RpcStub):
    """Calls to a facet. It has no `id` and no `name`, and cannot be passed on."""

    __slots__ = ()

    def _rpc_target(self) -> Target:
        raise JsException(_NOT_SERIALIZABLE, "DataCloneError")

    def __repr__(self) -> str:
        return f"<stub of facet {self._target!r}>"


class Facets:
    """`ctx.facets` of one activation of an object."""

    def __init__(
        self,
        context: ActorContext,
        of: ObjectClass,
        id: DurableObjectId | str,
        factory: FacetFactory,
        begin: Callable[[EventKind, str], EventContext],
        gate: InputGate,
    ) -> None:
        self._context = context
        self._class = of
        self._id = id
        self._factory = factory
        self._begin = begin
        self._gate = gate
        self._facets: dict[str, _Facet] = {}
        self._running: dict[str, ActorContext] = {}

    @property
    def running(self) -> bool:
        """Some facet is in memory."""
        return bool(self._running)

    def get(self, name: str, getStartupOptions: Callable[[], Any]) -> FacetStub:
        """The facet of that name. It is started by its first call: then `getStartupOptions()`, sync or async, gives
        `{"class": ctx.exports.Name}`, with the `id` that the facet is to see; without one, its parent's.

        TypeError for a name of more than 256 characters; JsException for a facet deeper than 3 levels below its object.
        """
        self._check(name)
        if self._context.address.id.count("/") + 1 >= FACET_DEPTH_MAX:
            raise JsException(
                "Facet nesting depth limit exceeded. The maximum depth including the root Durable Object is "
                f"{FACET_DEPTH_MAX}."
            )
        if not callable(getStartupOptions):
            raise TypeError(f"facets.get() takes a name and a function, not {type(getStartupOptions).__name__}")
        facet = self._facets.get(name)
        if facet is None:
            facet = self._facets[name] = _Facet(self, name)
        facet.get_start = getStartupOptions
        token = current_event.set(None)  # not released with the event that asks for it
        try:
            return FacetStub(facet)
        finally:
            current_event.reset(token)

    def abort(self, name: str, reason: object = None) -> None:
        """Reset a facet: its calls, and its stubs of before, fail with `reason`. Its storage stays."""
        self._check(name)
        self._break(name, str(reason))

    def delete(self, name: str) -> None:
        """Abort a facet, and delete its storage and that of the facets within it."""
        self._check(name)
        self._break(name, DELETED)
        delete_stored(self._write(), self._address(name))

    def clone(self, src: str, dst: str) -> None:
        """Make the storage of `dst`, and of the facets within it, a copy of that of `src`, as it is now. What `dst` was
        is aborted and deleted; nothing is there afterwards if `src` has stored nothing. With twice the same name the
        facet is aborted only.

        The copy is made with what this object writes at the same time, and replies wait for it.
        """
        self._check(src)
        self._check(dst)
        self._break(dst, CLONED_OVER)
        if src == dst:
            return
        for address, context in self._factory.running.items():
            if is_within(address, self._address(src)):
                context.flush()
        batch = self._write()
        delete_stored(batch, self._address(dst))
        copy_stored(batch, self._address(src), self._address(dst))

    def delete_all(self) -> None:
        """Delete what all facets have stored."""
        for name in tuple(self._facets):
            self._break(name, DELETED)
        delete_stored_within(self._write(), self._context.address)

    def began(self, name: str, context: ActorContext) -> None:
        self._running[name] = context
        context.closed.add_done_callback(partial(self._ended, name, context))

    def end(self) -> None:
        """The parent is no longer in memory."""
        for name in tuple(self._facets):
            self._break(name, _ENDED)

    def _ended(self, name: str, context: ActorContext, _: Promise[None]) -> None:
        if self._running.get(name) is context:
            del self._running[name]

    def _break(self, name: str, reason: str) -> None:
        error = ActorBroken(reason, retryable=False)
        facet = self._facets.pop(name, None)
        if facet is not None:
            facet.break_with(error)
        running = self._running.pop(name, None)
        if running is not None:
            running.abort(error)
        self._factory.starts.pop(self._address(name), None)

    def _check(self, name: str) -> None:
        if not isinstance(name, str):
            raise TypeError(f"the name of a facet is a string, not {type(name).__name__}")
        if len(name) > FACET_NAME_MAX:
            raise TypeError(f"Facet name is too long (max {FACET_NAME_MAX} characters).")

    def _address(self, name: str) -> ActorAddress:
        return facet_address(self._context.address, name)

    def _write(self) -> Batch:
        turn = self._context.turn()
        turn.confirmed = True
        return turn.batch

    async def _start(self, name: str, get_start: Callable[[], Any], gate: InputGate, event: EventContext) -> None:
        """Ask the parent's code how the facet is to run."""
        outcome, trace = Outcome.CANCELED, ""
        try:
            # What a deletion before this removes must be gone.
            await self._context.wait_durable()
            options = await event.run(call_gated, gate, get_start)
            start = FacetStart(self._of(options), self._id_of(options), self, name)
            outcome = Outcome.OK
        except Exception as error:
            outcome, trace = Outcome.EXCEPTION, script_traceback(error)
            raise
        finally:
            self._context.events.end(event, outcome, error=trace)
        address = self._address(name)
        self._factory.starts[address] = start
        self._factory.reachable(address.worker, address.namespace)

    def _begin_start(self) -> EventContext:
        return self._begin(EventKind.RPC, f"{self._class.name}.facets.get")

    def _of(self, options: object) -> ObjectClass:
        given = _option(options, "class")
        cls = given.cls if isinstance(given, DurableObjectNamespace) else given
        if not isinstance(cls, type) or not issubclass(cls, DurableObject):
            raise TypeError(
                "the start of a facet is given by {'class': ctx.exports.Name}, a Durable Object class of this script; "
                f"found {given!r}"
            )
        return replace(self._class, cls=cls, sqlite=True)

    def _id_of(self, options: object) -> DurableObjectId | str:
        given = _option(options, "id")
        if given is None:
            return self._id
        if not isinstance(given, (DurableObjectId, str)):
            raise TypeError(f"the id of a facet is a DurableObjectId or a string, not {type(given).__name__}")
        return given


def _option(options: object, name: str) -> Any:
    return options.get(name) if isinstance(options, Mapping) else getattr(options, name, None)


class _Facet:
    """`workers.lending.Target` of one facet, until it is aborted. Calls begin in the order in which they were made."""

    def __init__(self, of: Facets, name: str) -> None:
        self.get_start: Callable[[], Any]
        self._of = of
        self._name = name
        self._broken: ActorBroken | None = None
        self._waiting: deque[tuple[object, Promise[Any]]] = deque()
        self._scope = trio.CancelScope()

    def invoke(self, method: str | None, args: list[Any]) -> Promise[Any]:
        if method is None:
            return Promise.rejected(TypeError("The RPC receiver is not a function."))
        if method in RESERVED:
            return Promise.rejected(reserved(method))
        return self._send(RpcCall(method, args))

    def fetch(self, request: Any) -> Promise[Any]:
        return self._send(FetchCall(request))

    def hold(self) -> None:
        """The facet is there whether or not a stub is."""

    release = hold

    def break_with(self, error: ActorBroken) -> None:
        self._broken = error
        self._scope.cancel()
        while self._waiting:
            self._waiting.popleft()[1].reject(error)

    def _send(self, message: object) -> Promise[Any]:
        if self._broken is not None:
            return Promise.rejected(self._broken.again())
        if not self._waiting and self._name in self._of._running:
            return self._deliver(message)
        promise: Promise[Any] = Promise()
        self._waiting.append((message, promise))
        if len(self._waiting) == 1:
            event = self._of._begin_start()
            event.start(self._begin, gate_inside.get() or self._of._gate, event)
        return promise

    async def _begin(self, gate: InputGate, event: EventContext) -> None:
        """Start the facet and let its calls go."""
        try:
            with self._scope:
                await self._of._start(self._name, self.get_start, gate, event)
        except Exception as error:
            while self._waiting:
                self._waiting.popleft()[1].reject(error)
        while self._waiting:
            message, promise = self._waiting.popleft()
            self._deliver(message).add_done_callback(partial(pass_on, promise))

    def _deliver(self, message: object) -> Promise[Any]:
        of = self._of
        return of._factory.host.deliver(of._address(self._name), message)

    def __repr__(self) -> str:
        return repr(self._name)
