"""What `ctx.exports` offers: the script's entrypoints as services within the isolate, its objects' namespaces."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import partial
from typing import Any, Final, cast

import trio

from bindings.kind import BindingKind
from edge_runtime.actors.api import ActorKind
from edge_runtime.config.model import Binding, OffersClasses, WorkerConfig
from edge_runtime.errors import ConnectionLost
from edge_runtime.event import EventContext, EventKind, Events, Outcome, current_event
from edge_runtime.limits import INVOCATION_DEPTH_MAX
from edge_runtime.promise import Promise
from edge_runtime.tracebacks import script_traceback
from edge_runtime.workers.context import ExecutionContext
from edge_runtime.workers.conversion import RpcStub, from_wire, to_wire
from edge_runtime.workers.entrypoints import WorkerEntrypoint
from edge_runtime.workers.exports import relaxed_call_args, rpc_methods
from edge_runtime.workers.held_stream import hold_body
from edge_runtime.workers.js_object import JsException
from edge_runtime.workers.js_values import JsDict
from edge_runtime.workers.remote_errors import remote_error
from edge_runtime.workers.replies import checked_response, plain_result
from edge_runtime.workers.request import Request

TOO_DEEP: Final = (
    "Subrequest depth limit exceeded. This request recursed through Workers too many times. This can happen e.g. if "
    "you have a Worker or Durable Object that calls other Workers or objects recursively."
)

_depth: contextvars.ContextVar[int] = contextvars.ContextVar("invocation_depth", default=0)


class LoopbackService(RpcStub):
    """`ctx.exports.Name`: `fetch` and the public methods of an entrypoint, each call an event with an instance of its
    own. Called with `props=`, it gives a service whose `ctx.props` they are. It lasts as long as the isolate."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[[Mapping[str, Any]], _Entrypoint], props: Mapping[str, Any]) -> None:
        token = current_event.set(None)  # not released with the event that asks for it
        try:
            super().__init__(make(props))
        finally:
            current_event.reset(token)
        self._make = make

    def __call__(self, options: Mapping[str, Any] | None = None, *, props: Mapping[str, Any] | None = None) -> Any:
        given: object = options.get("props") if props is None and isinstance(options, Mapping) else props
        if not isinstance(given, Mapping):
            raise TypeError("ctx.exports.Name() takes props=, a dict")
        return LoopbackService(self._make, from_wire(to_wire(dict(given))))

    def __repr__(self) -> str:
        return f"<service {self._target!r}>"


class _Entrypoint:
    """`workers.lending.Target` of one entrypoint class."""

    def __init__(
        self,
        cls: type[WorkerEntrypoint],
        env: Any,
        events: Events,
        nursery: trio.Nursery,
        tasks: contextvars.Context,
        props: Mapping[str, Any],
    ) -> None:
        self._cls = cls
        self._env = env
        self._events = events
        self._nursery = nursery
        self._tasks = tasks
        self._props = props

    def invoke(self, method: str | None, args: list[Any]) -> Promise[Any]:
        if method is None:
            return Promise.rejected(TypeError("The RPC receiver is not a function."))
        if method not in rpc_methods(cast(Hashable, self._cls)):
            return Promise.rejected(remote_error(TypeError(f"Method {method} does not exist")))
        return self._begin(EventKind.RPC, method, partial(self._call, method, args))

    def fetch(self, request: Request) -> Promise[Any]:
        return self._begin(EventKind.FETCH, "fetch", partial(self._fetch, request))

    def hold(self) -> None:
        """The class is there whether or not a stub is."""

    release = hold

    def _call(self, method: str, args: list[Any], event: EventContext) -> Any:
        return getattr(self._instance(event), method)(*map(from_wire, args))

    def _fetch(self, request: Request, event: EventContext) -> Any:
        instance = self._instance(event)
        handler = getattr(instance, "fetch", None)
        if handler is None:
            raise TypeError("Handler does not export a fetch() function.")
        return handler(*relaxed_call_args(handler, (request, self._env, instance.ctx)))

    def _instance(self, event: EventContext) -> WorkerEntrypoint:
        return self._cls(ExecutionContext(event, JsDict(self._props)), self._env)

    def _begin(self, kind: EventKind, name: str, call: Callable[[EventContext], Any]) -> Promise[Any]:
        depth = _depth.get()
        if depth >= INVOCATION_DEPTH_MAX:
            return Promise.rejected(JsException(TOO_DEEP))
        promise: Promise[Any] = Promise()
        tasks = self._tasks.copy()
        tasks.run(_depth.set, depth + 1)
        tasks.run(self._nursery.start_soon, self._run, kind, name, call, promise)
        return promise

    async def _run(
        self, kind: EventKind, name: str, call: Callable[[EventContext], Any], promise: Promise[Any]
    ) -> None:
        event = self._events.begin(kind, f"{self._cls.__name__}.{name}")
        outcome, trace, held = Outcome.CANCELED, "", False

        def end() -> None:
            self._events.end(event, outcome, error=trace)

        try:
            result = await event.run(call, event)
            if kind is EventKind.FETCH:
                response = checked_response(self._cls.__name__, result)
                held = hold_body(response, _UNGATED, [], end)
                self._events.acknowledge(event)
                result = response
            plain = plain_result(event, result)
            outcome = Outcome.OK
            promise.resolve(plain)
        except trio.Cancelled:
            raise
        except BaseException as error:
            outcome, trace = Outcome.EXCEPTION, script_traceback(error)
            promise.reject(remote_error(error))
        finally:
            if not promise.settled:
                promise.reject(ConnectionLost())
            if not held:
                end()

    def __repr__(self) -> str:
        return self._cls.__name__


class _Ungated:
    """The output gate that a body has which comes from no object."""

    durable = True

    def __init__(self) -> None:
        self.closed: Promise[None] = Promise()
        self._open: Promise[None] = Promise()
        self._open.resolve(None)

    def when_durable(self) -> Promise[None]:
        return self._open

    async def wait_durable(self) -> None:
        return


_UNGATED: Final = _Ungated()


def loopback_services(
    classes: Mapping[str, type[WorkerEntrypoint]], env: Any, events: Events, nursery: trio.Nursery
) -> dict[str, LoopbackService]:
    """The script's entrypoints by class name. Their calls run in `nursery`."""
    tasks = contextvars.copy_context()
    return {
        name: LoopbackService(partial(_Entrypoint, cls, env, events, nursery, tasks), {})
        for name, cls in classes.items()
    }


def own_namespaces(
    kind: BindingKind, made: Iterable[tuple[Binding, object | None]], config: WorkerConfig
) -> dict[str, object]:
    """The namespaces, among what a kind has made, of the worker's own Durable Object classes."""
    if not isinstance(kind, OffersClasses):
        return {}
    return {
        cls: namespace
        for binding, namespace in made
        if namespace is not None
        for offered, cls, _ in kind.offered(binding, config.name)
        if offered == ActorKind.OBJECT.value
    }
