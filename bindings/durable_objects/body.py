"""The actor's body that runs a script's DurableObject class."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from math import inf
from typing import Any, Final, cast

import trio

from bindings.durable_objects.facets import NO_ALARMS, FacetFactory, Facets, FacetStart
from bindings.durable_objects.gated import call_gated, gate_inside
from bindings.durable_objects.held_stream import hold_body
from bindings.durable_objects.messages import FetchCall, ListenerCall, RpcCall, SocketEvent
from bindings.durable_objects.sockets import NamespaceSockets, ObjectRecipients, ObjectSockets
from bindings.durable_objects.state import DurableObjectState
from edge_runtime.actors.alarms import next_attempt
from edge_runtime.actors.api import ActorContext
from edge_runtime.actors.gates import CriticalSection, InputGate
from edge_runtime.actors.ids import DurableObjectId, IdFactory, unique_key
from edge_runtime.actors.storage import ActorStorage
from edge_runtime.compat.suspending import call_suspending
from edge_runtime.errors import ActorBroken
from edge_runtime.event import EventContext, EventKind, Outcome, current_event, outcome_of, require_event
from edge_runtime.limits import ALARM_WALL_MS, BLOCK_CONCURRENCY_MS
from edge_runtime.metering.quantities import WEBSOCKET_BYTES_IN
from edge_runtime.promise import Promise
from edge_runtime.store.api import Batch
from edge_runtime.tracebacks import script_traceback
from edge_runtime.workers.conversion import SAME, SMALL, from_wire, to_wire_result
from edge_runtime.workers.entrypoints import DurableObjectAbort
from edge_runtime.workers.exports import relaxed_call_args, rpc_methods, sync_methods
from edge_runtime.workers.js_object import JsException
from edge_runtime.workers.js_values import JsDict
from edge_runtime.workers.js_views import JsResponse
from edge_runtime.workers.response import FetchResponse, Response
from edge_runtime.workers.rpc import received, remote_error
from edge_runtime.workers.websocket_recipient import SocketFlags
from edge_runtime.workers.workflows import NonRetryableError

_log = logging.getLogger("edge.durable_objects")

_EXCEEDED_CPU: Final = "Durable Object exceeded its CPU time limit and was reset."
BLOCKED_TOO_LONG: Final = (
    "A call to blockConcurrencyWhile() in a Durable Object waited for too long. The call was canceled and the Durable "
    "Object was reset."
)


@dataclass(frozen=True, slots=True)
class ObjectClass:
    """A script's class, and how its objects are to be run."""

    cls: type[Any]
    env: Any
    sqlite: bool
    delete_all_deletes_alarm: bool
    socket_flags: SocketFlags

    @property
    def name(self) -> str:
        return self.cls.__name__


class ObjectBody:
    """One object in memory.

    The instance is made once. Each call, request and alarm is an event of its own: metered, logged, its failure kept
    from the others. A failing constructor, critical section or `ctx.abort` resets the object; nothing else does.
    """

    __slots__ = (
        "_alarm_retries", "_class", "_context", "_facet", "_facet_factory", "_facets", "_gate", "_instance",
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
        self._alarm_retries: int | None = None
        """Retry number of the alarm that runs; None while none does."""
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
            _log.warning("an alarm of %s was dropped: the class has no alarm() handler", self._class.name)
            self._set_alarm(None, 0)
            return
        retries = self._alarm_retries = context.retries
        info = JsDict(retryCount=retries, isRetry=retries > 0, scheduledTime=context.scheduled_ms)
        self._storage.begin_alarm()
        try:
            succeeded = await self._run_alarm(handler, info)
        finally:
            self._alarm_retries = None
            replaced = self._storage.end_alarm()
        if not replaced:
            self._alarm_ended(retries, failed=not succeeded)

    async def _run_alarm(self, handler: Callable[..., Any], info: JsDict) -> bool:
        with trio.move_on_after(ALARM_WALL_MS / 1000) as limit:
            try:
                await self._run(EventKind.ALARM, "alarm", handler, *relaxed_call_args(handler, (info,)), limit=limit)
            except trio.Cancelled:
                raise
            except Exception:
                # Logged with its event; what follows is the retry.
                return False
            return True
        return False

    def _alarm_ended(self, retries: int, *, failed: bool) -> None:
        """Clear the alarm, or set its next attempt, together with what the handler wrote last."""
        context = self._context
        due_ms = None
        if failed:
            fraction = int.from_bytes(context.random.bytes(2), "big") / 65536
            due_ms = next_attempt(retries, context.clock.now_ms(), fraction)
            if due_ms is None:
                _log.error(
                    "the alarm of %s %s was dropped after %d retries", self._class.name, context.address.id, retries
                )
        self._set_alarm(due_ms, 0 if due_ms is None else retries + 1)

    def _set_alarm(self, due_ms: int | None, retries: int) -> None:
        turn = self._context.turn()
        turn.confirmed = True
        self._context.set_timer(turn.batch, due_ms, retries=retries)

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
                    result = _plain_result(event, result)
            elif kind is EventKind.FETCH:
                result = self._response(result)
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
            raise _seen_by_caller(error) from error
        finally:
            if not held:
                end()

    def _response(self, result: object) -> FetchResponse:
        if isinstance(result, JsResponse):
            return Response(result)
        if not isinstance(result, FetchResponse):
            raise TypeError(
                f"{self._class.name}.fetch() returned {type(result).__name__}; allowed: a workers.Response "
                "(was a return missing?)"
            )
        return result

    def critical_section(self, callback: Callable[[], Any]) -> Promise[Any]:
        """Run `callback` with other events held back; see DurableObjectState.blockConcurrencyWhile."""
        event = require_event("blockConcurrencyWhile()")
        entered = (gate_inside.get() or self._gate).enter()
        section = event.spawn(self._run_section, event, entered, callback)
        # The section belongs to the event even if nobody awaits it.
        event.wait_until(section)
        return section

    async def _run_section(
        self, event: EventContext, entered: Promise[CriticalSection], callback: Callable[[], Any]
    ) -> Any:
        section = await entered
        try:
            with trio.move_on_after(BLOCK_CONCURRENCY_MS / 1000) as limit:
                self._scopes.append(limit)
                try:
                    gate_inside.set(section)
                    return await event.run(call_gated, section, callback)
                finally:
                    self._scopes.remove(limit)
            too_long = ActorBroken(BLOCKED_TOO_LONG, retryable=False, overloaded=True)
            self._context.abort(too_long)
            raise too_long
        except trio.Cancelled:
            raise
        except DurableObjectAbort as abort:
            raise ActorBroken(str(abort), retryable=False) from None
        except BaseException as error:
            if isinstance(error, BaseExceptionGroup) and error.subgroup(trio.Cancelled) is not None:
                raise
            seen = _seen_by_caller(error)
            seen.__cause__ = error
            self._context.abort(seen)
            raise
        finally:
            section.leave()

    def reset(self, message: str, *, retry_alarm: bool) -> None:
        """`ctx.abort`: drop what is not committed and break the activation."""
        context = self._context
        context.discard_turn()
        if self._alarm_retries is not None and not self._storage.end_alarm():
            self._alarm_aborted(self._alarm_retries, retry_alarm)
        context.abort(ActorBroken(message, retryable=False))

    def _alarm_aborted(self, retries: int, retry: bool) -> None:
        if retry:
            self._alarm_ended(retries, failed=True)
        else:
            self._set_alarm(None, 0)
        self._context.commit(Batch())

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


class ObjectFactory:
    """`actors.api.BodyFactory` of one class."""

    def __init__(self, of: ObjectClass, idle_ms: int, sockets: NamespaceSockets) -> None:
        self._class = of
        self._sockets = sockets
        self.idle_ms = idle_ms
        self._facets = FacetFactory(sockets.host, idle_ms, self._make_facet)

    def __call__(self, context: ActorContext) -> ObjectBody:
        return ObjectBody(context, self._class, self._sockets, self._facets)

    def _make_facet(self, context: ActorContext, start: FacetStart) -> ObjectBody:
        return ObjectBody(context, start.of, self._sockets, self._facets, start)


def _call_plain(method: Callable[..., Any], args: list[Any]) -> Any:
    return method(*map(from_wire, args))


def _call_suspending(method: Callable[..., Any], args: list[Any]) -> Any:
    return call_suspending(method, *map(from_wire, args))


def _plain_result(event: EventContext, result: object) -> Any:
    """The result in plain form; what is in it by reference is lent by `event`."""
    token = current_event.set(event)
    try:
        return to_wire_result(result)
    finally:
        current_event.reset(token)


def _seen_by_caller(error: BaseException) -> Exception:
    """The error as callers get it: TypeError, ValueError and NonRetryableError keep their class, of any other only the
    message arrives (another object's reset included: this object was not reset). `remote` says where it came from."""
    if isinstance(error, (TypeError, ValueError, NonRetryableError, JsException)):
        return remote_error(error)
    seen = Exception(str(error) or type(error).__name__)
    seen.__dict__["remote"] = True
    return seen
