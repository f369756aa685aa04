"""The actor's body that runs a script's DurableObject class."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from math import inf
from typing import Any, Final, cast

import trio

from bindings.durable_objects.alarm_run import AlarmRun, drop_alarm
from bindings.durable_objects.critical_section import run_section
from bindings.durable_objects.facets import NO_ALARMS, FacetFactory, Facets, FacetStart
from bindings.durable_objects.gated import call_gated, gate_inside
from bindings.durable_objects.messages import FetchCall, ListenerCall, RpcCall, SocketEvent
from bindings.durable_objects.object_class import ObjectClass
from bindings.durable_objects.sockets import NamespaceSockets, ObjectRecipients, ObjectSockets
from bindings.durable_objects.state import DurableObjectState
from edge_runtime.actors.api import ActorContext
from edge_runtime.actors.gates import InputGate
from edge_runtime.actors.ids import DurableObjectId, IdFactory, unique_key
from edge_runtime.actors.storage import ActorStorage
from edge_runtime.compat.suspending import call_suspending
from edge_runtime.errors import ActorBroken
from edge_runtime.event import EventContext, EventKind, Outcome, outcome_of, require_event
from edge_runtime.limits import ALARM_WALL_MS
from edge_runtime.metering.quantities import WEBSOCKET_BYTES_IN
from edge_runtime.promise import Promise
from edge_runtime.tracebacks import script_traceback
from edge_runtime.workers.conversion import SAME, SMALL, from_wire, received
from edge_runtime.workers.entrypoints import DurableObjectAbort
from edge_runtime.workers.exports import relaxed_call_args, rpc_methods, sync_methods
from edge_runtime.workers.held_stream import hold_body
from edge_runtime.workers.js_object import JsException
from edge_runtime.workers.js_values import JsDict
from edge_runtime.workers.remote_errors import remote_error, seen_by_caller
from edge_runtime.workers.replies import checked_response, plain_result

_log = logging.getLogger("edge.durable_objects")

_EXCEEDED_CPU: Final = "Durable Object exceeded its CPU time limit and was reset."


class ObjectBody:
    """One object in memory.

    The instance is made once. Each call, request and alarm is an event of its own: metered, logged, its failure kept
    from the others. A failing constructor, critical section or `ctx.abort` resets the object; nothing else does.
    """

    __slots__ = (
        "_alarm", "_class", "_context", "_facet", "_facet_factory", "_facets", "_gate", "_instance",
        "_lingering", "_methods", "_name", "_recipients", "_running", "_scopes", "_sockets", "_stopped", "_storage",
        "_sync_methods",
    )  # fmt: skip

    def __init__(
        self,
        context: ActorContext,
        of: ObjectClass,
        sockets: NamespaceSockets,
        facets: FacetFactory,
        facet: FacetStart | None = None,
    ) -> None:
        """`facet`: the object is one of another object, by which it was started."""
        self._context = context
        self._facet_factory = facets
        self._facet = facet
        self._facets: Facets | None = None
        self._class = of
        self._name = of.name
        self._sockets = sockets
        self._recipients = ObjectRecipients(self, context, sockets.host, of.socket_flags)
        self._stopped = False
        self._instance: Any = None
        self._gate = InputGate()
        self._scopes: list[trio.CancelScope] = []
        """Of what runs outside of the activation's tasks and must end with it."""
        self._methods: frozenset[str] = rpc_methods(cast(Hashable, of.cls))
        self._sync_methods: frozenset[str] = sync_methods(cast(Hashable, of.cls))
        self._running = 0
        self._lingering: list[EventContext] = []
        self._alarm: AlarmRun | None = None
        """The one that runs."""
        self._storage = ActorStorage(
            context,
            self.critical_section,
            sqlite=of.sqlite,
            delete_all_deletes_alarm=of.delete_all_deletes_alarm,
        )
        if facet is not None:
            self._storage.alarm_refusal = JsException(NO_ALARMS)
        self._storage.also_delete_all = self._delete_facets
        context.closed.add_done_callback(self._closed)

    async def start(self) -> None:
        state = DurableObjectState(self._id, self._storage, self)

        async def construct() -> Any:
            instance = self._class.cls(state, self._class.env)
            if not self._gate.open:
                await self._gate.wait_open()
            return instance

        self._instance = await self._run(EventKind.RPC, "constructor", construct)

    @property
    def _id(self) -> DurableObjectId | str:
        if self._facet is not None:
            return self._facet.id
        address = self._context.address
        known = IdFactory(unique_key(address.worker, address.namespace)).known(address.id)
        return DurableObjectId(address.id, self._context.name, None if known is None else known.jurisdiction)

    def facets(self) -> Facets:
        """What the object has of objects within it."""
        if self._facets is None:
            made = (self._context, self._class, self._id, self._facet_factory, self._begin, self._gate)
            self._facets = Facets(*made)
        return self._facets

    def _delete_facets(self) -> None:
        self.facets().delete_all()

    def _begin(self, kind: EventKind, name: str) -> EventContext:
        event = self._context.events.begin(kind, name, actor=self._context)
        event.sockets = self._recipients
        event.guard = self
        return event

    async def input_open(self) -> None:
        while not self._gate.open:
            await self._gate.wait_open()

    def call(self, fn: Callable[..., Any], *args: object) -> Any:
        """Call a function that the object lent to others."""
        return call_gated(self._gate, fn, *args)

    async def receive(self, message: object) -> object:
        if type(message) is RpcCall:
            name, plain_args, caller = message.method, message.args, message.caller
            if name not in self._methods:
                raise remote_error(TypeError(f"Method {name} does not exist"))
            method = getattr(self._instance, name)
            if name in self._sync_methods:
                plain = await self._run(EventKind.RPC, name, _call_suspending, method, plain_args)
            elif plain_args:
                plain = await self._run(EventKind.RPC, name, _call_plain, method, plain_args)
            else:
                plain = await self._run(EventKind.RPC, name, method)
            return plain if caller is None or type(plain) in SAME else received(caller, plain)
        if isinstance(message, SocketEvent):
            await self._socket_event(message)
            return None
        if isinstance(message, ListenerCall):
            if message.owner is self:
                await self._run(EventKind.WEBSOCKET, message.name, message.call)
            return None
        assert isinstance(message, FetchCall)
        handler = getattr(self._instance, "fetch", None)
        if handler is None:
            raise remote_error(TypeError("Handler does not export a fetch() function."))
        args = relaxed_call_args(handler, (message.request, self._class.env, self._instance.ctx))
        return await self._run(EventKind.FETCH, "fetch", handler, *args)

    async def _socket_event(self, event: SocketEvent) -> None:
        event.begin()
        handler = getattr(self._instance, event.handler, None)
        if not callable(handler):
            return
        timeout_ms = self.hibernatable().event_timeout_ms
        with trio.move_on_after(inf if timeout_ms is None else timeout_ms / 1000):
            args = relaxed_call_args(handler, (event.socket, *event.args))
            await self._run(EventKind.WEBSOCKET, event.handler, _receive, event.size, handler, *args)

    def hibernatable(self) -> ObjectSockets:
        """The object's hibernatable sockets, which outlive this activation."""
        return self._sockets.open(self._context.address, self._context.name)

    async def timer(self) -> None:
        context = self._context
        due_ms = context.due_ms
        if due_ms is None or due_ms > context.clock.now_ms():
            return
        handler = getattr(self._instance, "alarm", None)
        if not callable(handler):
            _log.warning("an alarm of %s was dropped: the class has no alarm() handler", self._name)
            drop_alarm(context)
            return
        self._alarm = alarm = AlarmRun(context, self._storage, self._name)
        try:
            await alarm.run(lambda limit: self._run_alarm(handler, alarm.info, limit))
        finally:
            self._alarm = None

    async def _run_alarm(self, handler: Callable[..., Any], info: JsDict, limit: trio.CancelScope) -> None:
        await self._run(EventKind.ALARM, "alarm", handler, *relaxed_call_args(handler, (info,)), limit=limit)

    async def _run(
        self, kind: EventKind, name: str, fn: Callable[..., Any], *args: object, limit: trio.CancelScope | None = None
    ) -> Any:
        """Run code of the script as an event; returns what arrives at the caller, raises what the caller sees.

        `limit` is cancelled if the event takes longer than it may.
        """
        events = self._context.events
        event = events.begin(kind, f"{self._name}.{name}", actor=self._context)
        event.sockets = self._recipients
        event.guard = self
        self._running += 1
        outcome, trace = Outcome.CANCELED, ""
        held = False

        def end() -> None:
            self._running -= 1
            events.end(event, outcome, error=trace)
            if event.has_open_work:
                self._lingering.append(event)

        try:
            result = await event.run(call_gated, self._gate, fn, *args)
            if kind is EventKind.RPC:
                if type(result) not in SMALL and name != "constructor":
                    result = plain_result(event, result)
            elif kind is EventKind.FETCH:
                result = checked_response(self._name, result)
                held = hold_body(result, self._context, self._scopes, end)
                events.acknowledge(event)
            outcome = Outcome.OK
            return result
        except trio.Cancelled:
            if limit is not None and limit.cancel_called:
                outcome, trace = Outcome.EXCEEDED_WALL_TIME, f"{name}() ran longer than {ALARM_WALL_MS} ms\n"
            raise
        except DurableObjectAbort as abort:
            outcome, trace = Outcome.EXCEPTION, f"{abort}\n"
            raise ActorBroken(str(abort), retryable=False) from None
        except BaseException as error:
            if isinstance(error, BaseExceptionGroup) and error.subgroup(trio.Cancelled) is not None:
                raise
            outcome, trace = outcome_of(error), script_traceback(error)
            if outcome is Outcome.EXCEEDED_CPU:
                self.reset(_EXCEEDED_CPU, retry_alarm=True)
                raise ActorBroken(_EXCEEDED_CPU, retryable=False) from error
            raise seen_by_caller(error) from error
        finally:
            if not held:
                end()

    def critical_section(self, callback: Callable[[], Any]) -> Promise[Any]:
        """Run `callback` with other events held back; see DurableObjectState.blockConcurrencyWhile."""
        event = require_event("blockConcurrencyWhile()")
        entered = (gate_inside.get() or self._gate).enter()
        section = event.spawn(run_section, self._context, event, entered, callback, self._scopes)
        # The section belongs to the event even if nobody awaits it.
        event.wait_until(section)
        return section

    def reset(self, message: str, *, retry_alarm: bool) -> None:
        """`ctx.abort`: drop what is not committed and break the activation."""
        context = self._context
        context.discard_turn()
        if self._alarm is not None:
            self._alarm.abort(retry=retry_alarm)
        context.abort(ActorBroken(message, retryable=False))

    def _closed(self, _: Promise[None]) -> None:
        self._gate.break_with(ActorBroken("the object was reset"))
        self._recipients.end()
        if self._facets is not None:
            self._facets.end()
        if self._stopped:
            self._sockets.evicted(self._context.address)
        elif self._instance is not None:
            self._sockets.reset(self._context.address)
        for scope in tuple(self._scopes):
            scope.cancel()

    async def stop(self) -> None:
        """What is written is queued, what runs is cut off by the host; hibernatable sockets stay."""
        self._stopped = True

    @property
    def answering(self) -> bool:
        return self._running > 0

    @property
    def idle(self) -> bool:
        if self._lingering:
            self._lingering = [event for event in self._lingering if event.has_open_work]
        if self._facets is not None and self._facets.running:
            return False
        if self._facet is not None and self._sockets.find(self._context.address):
            return False  # nobody but its parent could wake it
        return not self._running and not self._lingering


def _receive(size: int, handler: Callable[..., Any], *args: object) -> Any:
    """Call the handler of a message of `size` bytes."""
    if size:
        require_event("a WebSocket's message").meter.quantities[WEBSOCKET_BYTES_IN] += size
    return handler(*args)


def _call_plain(method: Callable[..., Any], args: list[Any]) -> Any:
    return method(*map(from_wire, args))


def _call_suspending(method: Callable[..., Any], args: list[Any]) -> Any:
    return call_suspending(method, *map(from_wire, args))
