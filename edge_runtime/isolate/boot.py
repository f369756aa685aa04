"""An isolate from fork to exit: opens the store, builds the bindings, serves, drains.

This is the one place where the isolate's parts are wired together.
"""

from __future__ import annotations

import fcntl
import logging
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from math import inf
from pathlib import Path

import trio

from bindings.kind import BindingRuntime
from edge_runtime.actors.api import ActorKind
from edge_runtime.actors.host import LocalActorHost
from edge_runtime.actors.placement import View
from edge_runtime.config.model import WorkerConfig
from edge_runtime.connection_marks import ConnectionMarks, marks_file
from edge_runtime.control import (
    ActorDeaths,
    ChargeLost,
    Connection,
    Drained,
    IsolateFailed,
    IsolateReady,
    ListObjects,
    MakeTemplate,
    Members,
    MembersReleased,
    Objects,
    PeerConnected,
    PeerMissing,
    Ping,
    Pong,
    Retire,
    Routes,
    RunScheduled,
    TimersChanged,
    WorkerMissing,
)
from edge_runtime.errors import EdgeError, ScriptError, StoreFailed
from edge_runtime.isolate.accounting import Accounting
from edge_runtime.isolate.asyncio_flavour import open_asyncio_flavour
from edge_runtime.isolate.client_socket import ClientSocket
from edge_runtime.isolate.connection import Connections
from edge_runtime.isolate.cpu_guard import guard_cpu
from edge_runtime.isolate.environment import Environment, build_environment
from edge_runtime.isolate.events import IsolateEvents
from edge_runtime.isolate.fetch import FetchHandler
from edge_runtime.isolate.handlers import fetch_handler, scheduled_handler
from edge_runtime.isolate.http1_connection import Http1Connections
from edge_runtime.isolate.hypercorn_connection import HypercornConnections
from edge_runtime.isolate.loader import LoadedScript, load_script
from edge_runtime.isolate.neighbours import Neighbours
from edge_runtime.isolate.net import open_net
from edge_runtime.isolate.peers import Peers
from edge_runtime.isolate.relay import Relay
from edge_runtime.isolate.schedules import cron_address, keep_schedule, register_crons
from edge_runtime.isolate.trio_flavour import TrioFlavour
from edge_runtime.limits import (
    EXIT_GRACE_S,
    MAP_SIZE,
    MOVE_PATIENCE_S,
    THREADS_MAX,
)
from edge_runtime.metering.child_tasks import ChildTaskMeter
from edge_runtime.metering.measure import measure_inline
from edge_runtime.metering.meter import Meter
from edge_runtime.metering.panel import Panel
from edge_runtime.seams import Flavour, SystemClock, SystemRandomness, ThreadOffload
from edge_runtime.socket_paths import isolates_lock
from edge_runtime.store.lmdb_environment import open_environment
from edge_runtime.store.lmdb_store import LmdbStore, store_on
from edge_runtime.store.transaction import EventStore
from edge_runtime.tracebacks import script_traceback
from edge_runtime.wire import Channel
from edge_runtime.workers.outgoing import Net
from edge_runtime.workers.websocket_recipient import socket_flags

_log = logging.getLogger("edge.isolate")

EXIT_DRAINED = 0
EXIT_FAILED = 3
"""The isolate could not start; it has said why."""
EXIT_STORE_FAILED = 4
"""A commit failed: nothing may be acknowledged any more, the supervisor verifies and restarts."""


def run_isolate(control: socket.socket, task: MakeTemplate, script: LoadedScript | None, config: WorkerConfig) -> int:
    """Be an isolate until told to end; returns the exit code. `script` is None when it is to be imported here."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True)
    return trio.run(_Isolate(control, task, script, config).run, instruments=[ChildTaskMeter()])


@contextmanager
def _hold_lock(data_dir: Path) -> Iterator[None]:
    """Let the next server know, should this one be killed, that this process may still write.

    A record lock: processes that the script forks do not inherit it.
    """
    with open(isolates_lock(data_dir), "rb") as file:
        fcntl.lockf(file, fcntl.LOCK_SH)
        yield


class _Isolate:
    def __init__(
        self, control: socket.socket, task: MakeTemplate, script: LoadedScript | None, config: WorkerConfig
    ) -> None:
        self._task = task
        self._config = config
        self._script = script
        self._control = control
        self._clock = SystemClock()
        self._exit_code = EXIT_DRAINED
        self._marks_file = marks_file()
        self._connections = Connections(ConnectionMarks(self._marks_file))
        self._relay: Relay
        self._store: LmdbStore
        self._accounting: Accounting
        self._import = Meter()
        """Charged with the import of the script if that takes place here."""
        self._events: IsolateEvents
        self._host: LocalActorHost
        self._peers: Peers
        self._neighbours = Neighbours(config.address)
        self._placed = trio.Event()
        self._released = trio.Event()
        self._drain_until_s = inf
        self._http: Http1Connections | HypercornConnections

    async def run(self) -> int:
        channel = Channel(trio.socket.from_stdlib_socket(self._control))
        self._channel = channel
        async with AsyncExitStack() as stack:
            try:
                stack.enter_context(_hold_lock(Path(self._task.data_dir)))
                script = self._script or measure_inline(self._import, load_script, self._config)
                path = Path(self._task.data_dir) / "store"
                environment = open_environment(path, readonly=False, map_size=MAP_SIZE)
                self._store = await stack.enter_async_context(store_on(environment, path))
                flavour = await self._open_flavour(stack)
                net = await stack.enter_async_context(open_net())
            except EdgeError as error:
                await self._fail(error)
                return self._exit_code
            await self._serve(script, flavour, net, channel)
        return self._exit_code

    async def _open_flavour(self, stack: AsyncExitStack) -> Flavour:
        if self._config.flavour == "asyncio":
            return await stack.enter_async_context(open_asyncio_flavour())
        return TrioFlavour()

    async def _fail(self, error: BaseException) -> None:
        self._exit_code = EXIT_FAILED
        detail = getattr(error, "detail", "") if isinstance(error, EdgeError) else script_traceback(error)
        await self._channel.send(IsolateFailed(str(error), detail))

    async def _serve(self, script: LoadedScript, flavour: Flavour, net: Net, channel: Channel) -> None:
        """Build everything that hangs on the event nursery, then follow the supervisor's messages to the end."""
        config, task = self._config, self._task
        accounting = Accounting(self._store, self._clock, config, task.version, Path(task.data_dir))
        self._accounting = accounting
        accounting.charge_import(self._import)
        async with trio.open_nursery() as background, trio.open_nursery() as work:
            flags = socket_flags(config)
            panel = Panel()
            events = IsolateEvents(
                work, flavour, self._clock, accounting.ledger, net, config.limits, flags, panel.label
            )
            self._events = events
            offload = ThreadOffload(THREADS_MAX)
            random = SystemRandomness()
            self._peers = Peers(config.address, channel.send_soon, self._clock, socket_flags(config))
            self._host = LocalActorHost(
                self._store, self._clock, random, offload, events, config.address, elsewhere=self._peers
            )
            runtime = BindingRuntime(
                worker=config,
                version=task.version,
                store=EventStore(self._store),
                clock=self._clock,
                random=random,
                offload=offload,
                flavour=flavour,
                events=events,
                actors=self._host,
                exports={**script.exports.workers, **script.exports.objects, **script.exports.workflows},
                env=script.env,
                development=task.development,
                neighbours=self._neighbours,
            )
            try:
                built = build_environment(script, runtime, work, events)
                scheduled = scheduled_handler(script)
                if config.crons and scheduled is None:
                    raise ScriptError(f"worker {config.name} has triggers.crons but no scheduled handler")
                if scheduled is not None:
                    register_crons(self._host, config.name, config.crons, scheduled.call, scheduled.name)
            except Exception as error:
                await self._fail(error)
                return
            self._relay = Relay(config.name, Path(task.data_dir), background)
            app = FetchHandler(fetch_handler(script), built.doors, self._relay, events, development=task.development)
            self._http = hypercorn = HypercornConnections(app, self._connections)
            if config.http1 == "llhttp":
                self._http = Http1Connections(app, self._connections, hypercorn, self._clock)
                await background.start(self._http.watch)
            background.start_soon(self._watch_store, background.cancel_scope, work.cancel_scope)
            background.start_soon(accounting.run, events)
            background.start_soon(events.ship_logs, channel)
            await background.start(self._peers.run, self._host)
            await background.start(self._host.run)
            background.start_soon(self._serve_actors, background, built, runtime)
            panel.show()
            guard_cpu()
            await channel.send(IsolateReady(), (*panel.descriptors, self._marks_file))
            grace_s = await self._follow(channel, work, background)
            background.start_soon(self._follow_on, channel, work, background)
            await self._drain(channel, grace_s, work)
            background.cancel_scope.cancel()

    async def _serve_actors(self, background: trio.Nursery, built: Environment, runtime: BindingRuntime) -> None:
        """Begin what concerns actors once this isolate is one of those that they live in."""
        await self._placed.wait()
        await keep_schedule(self._store, self._clock, self._config.name, self._config.crons, self._host.owns)
        self._host.timers_changed()
        for kind, bindings in built.used:
            background.start_soon(kind.serve, bindings, runtime)

    async def _follow(self, channel: Channel, work: trio.Nursery, background: trio.Nursery) -> float:
        """Do what the supervisor says until it says Retire (returns the grace in seconds) or is gone (0)."""
        while True:
            received = await channel.receive()
            if received is None:
                return 0.0
            message, descriptors = received
            match message:
                case Connection():
                    self._accept(descriptors, work)
                case Ping(number=number):
                    channel.send_soon(
                        Pong(
                            number,
                            len(self._connections),
                            self._events.open,
                            self._host.active,
                            self._host.next_due_ms,
                            self._events.was_used(),
                        )
                    )
                case ListObjects(number=number, namespace=namespace):
                    ids = self._host.in_memory(ActorKind.OBJECT, namespace)
                    channel.send_soon(Objects(number, ids))
                case Routes():
                    self._relay.routes_changed(message)
                    self._neighbours.workers_changed(message)
                case Members():
                    self._members_changed(message, channel, background)
                case PeerConnected():
                    self._peers.connected(message, descriptors)
                case WorkerMissing():
                    self._peers.worker_missing(message)
                case PeerMissing():
                    pass  # its calls wait for the view that says so
                case TimersChanged():
                    self._host.timers_changed()
                case ActorDeaths(deaths=deaths):
                    self._host.learn_deaths(deaths)
                case ChargeLost():
                    self._events.charge_lost(message)
                case RunScheduled(cron=cron, scheduled_ms=scheduled_ms):
                    self._host.deliver(cron_address(self._config.name, cron), scheduled_ms)
                case Retire(grace_s=grace_s):
                    return grace_s
                case _:
                    _log.error("the supervisor sent %r, which an isolate does not know", type(message).__name__)

    async def _follow_on(self, channel: Channel, work: trio.Nursery, background: trio.Nursery) -> None:
        """While it drains: calls to other isolates go on, and the actors are released when the members agree on it."""
        while await self._follow(channel, work, background):
            pass
        self._released.set()

    def _members_changed(self, message: Members, channel: Channel, background: trio.Nursery) -> None:
        view = View(message.number, message.agreed, message.proposed, message.releasing)
        if message.me is not None and message.worker == self._config.address:
            self._host.change_view(view, message.me)
            if message.me in view.agreed:
                self._placed.set()
            if view.releasing:
                background.start_soon(self._release_lost, channel, view, message.me)
        self._peers.members_changed(message.worker, view, message.me)

    async def _release_lost(self, channel: Channel, view: View, me: int) -> None:
        left_s = self._drain_until_s - trio.current_time()
        await self._host.release_lost(view.proposed, max(0.0, min(MOVE_PATIENCE_S, left_s)))
        try:
            await channel.send(MembersReleased(view.number))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return  # the supervisor is gone, and nobody is to get the actors
        if me not in view.proposed:
            self._released.set()

    def _accept(self, descriptors: Sequence[int], work: trio.Nursery) -> None:
        for descriptor in descriptors:
            client = ClientSocket(fileno=descriptor)
            if isinstance(self._http, HypercornConnections):
                work.start_soon(self._http.serve, client.stream())
            else:
                work.start_soon(self._http.serve, client)

    async def _drain(self, channel: Channel, grace_s: float, work: trio.Nursery) -> None:
        """Answer what was asked, release the actors, let streams end, and stop; the whole within `grace_s`.

        Requests come first because they may call actors; streams that are still being sent do not hold the actors
        back, since others wait for them.
        """
        deadline = self._drain_until_s = trio.current_time() + grace_s
        with trio.move_on_at(deadline):
            await self._http.drain()
            await self._events.wait_answered()
        try:
            await channel.send(Drained())
            # What was not released when the time is over is released by the end of the process.
            with trio.move_on_at(deadline + EXIT_GRACE_S / 2):
                await self._released.wait()
        except trio.BrokenResourceError:
            pass  # the supervisor is gone
        await self._host.release()
        with trio.move_on_at(deadline):
            await self._connections.wait_empty()
            await self._events.wait_none_open()
        work.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await self._accounting.finish(self._events)
            await self._events.flush_logs(channel)

    async def _watch_store(self, *scopes: trio.CancelScope) -> None:
        try:
            await self._store.failed
        except StoreFailed:
            _log.exception("a commit failed; this isolate ends and acknowledges nothing more")
            self._exit_code = EXIT_STORE_FAILED
            for scope in scopes:
                scope.cancel()
