"""An isolate from fork to exit: opens the store, builds the bindings, serves what the supervisor hands over.

This is the one place where the isolate's parts are wired together.
"""

from __future__ import annotations

import fcntl
import logging
import socket
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import trio

from bindings.kind import BindingRuntime
from edge_runtime.actors.host import LocalActorHost
from edge_runtime.config.model import WorkerConfig
from edge_runtime.connection_marks import ConnectionMarks, marks_file
from edge_runtime.control import IsolateFailed, IsolateReady, MakeTemplate
from edge_runtime.errors import EdgeError, ScriptError, StoreFailed
from edge_runtime.isolate.asyncio_flavour import open_asyncio_flavour
from edge_runtime.isolate.events.accounting import Accounting
from edge_runtime.isolate.events.cpu_guard import guard_cpu
from edge_runtime.isolate.events.lifecycle import IsolateEvents
from edge_runtime.isolate.following import Following
from edge_runtime.isolate.handlers.entrypoints import fetch_handler, scheduled_handler
from edge_runtime.isolate.handlers.fetch import FetchHandler
from edge_runtime.isolate.handlers.schedules import keep_schedule, register_crons
from edge_runtime.isolate.http.open_connections import OpenConnections
from edge_runtime.isolate.http1.server import Http1Server
from edge_runtime.isolate.hypercorn.server import HypercornServer
from edge_runtime.isolate.outgoing.net import open_net
from edge_runtime.isolate.outgoing.relay import Relay
from edge_runtime.isolate.peers.elsewhere import Peers
from edge_runtime.isolate.peers.neighbours import Neighbours
from edge_runtime.isolate.script.environment import Environment, build_environment
from edge_runtime.isolate.script.loader import LoadedScript, load_script
from edge_runtime.isolate.trio_flavour import TrioFlavour
from edge_runtime.limits import MAP_SIZE, THREADS_MAX
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
from edge_runtime.workers.network import Net
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
        self._store: LmdbStore
        self._import = Meter()
        """Charged with the import of the script if that takes place here."""

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
        accounting.charge_import(self._import)
        async with trio.open_nursery() as background, trio.open_nursery() as work:
            flags = socket_flags(config)
            panel = Panel()
            events = IsolateEvents(
                work, flavour, self._clock, accounting.ledger, net, config.limits, flags, panel.label
            )
            offload = ThreadOffload(THREADS_MAX)
            random = SystemRandomness()
            neighbours = Neighbours(config.address)
            peers = Peers(config.address, channel.send_soon, self._clock, flags)
            host = LocalActorHost(self._store, self._clock, random, offload, events, config.address, elsewhere=peers)
            runtime = BindingRuntime(
                worker=config,
                version=task.version,
                store=EventStore(self._store),
                clock=self._clock,
                random=random,
                offload=offload,
                flavour=flavour,
                events=events,
                actors=host,
                exports={**script.exports.workers, **script.exports.objects, **script.exports.workflows},
                env=script.env,
                development=task.development,
                neighbours=neighbours,
            )
            try:
                built = build_environment(script, runtime, work, events)
                scheduled = scheduled_handler(script)
                if config.crons and scheduled is None:
                    raise ScriptError(f"worker {config.name} has triggers.crons but no scheduled handler")
                if scheduled is not None:
                    register_crons(host, config.name, config.crons, scheduled.call, scheduled.name)
            except Exception as error:
                await self._fail(error)
                return
            marks = marks_file()
            connections = OpenConnections(ConnectionMarks(marks))
            relay = Relay(config.name, Path(task.data_dir), background)
            app = FetchHandler(fetch_handler(script), built.doors, relay, events, development=task.development)
            http: Http1Server | HypercornServer
            http = hypercorn = HypercornServer(app, connections)
            if config.http1 == "llhttp":
                http = Http1Server(app, connections, hypercorn, self._clock)
                await background.start(http.watch)
            following = Following(
                config=config,
                channel=channel,
                work=work,
                background=background,
                connections=connections,
                http=http,
                relay=relay,
                neighbours=neighbours,
                events=events,
                accounting=accounting,
                host=host,
                peers=peers,
            )
            background.start_soon(self._watch_store, background.cancel_scope, work.cancel_scope)
            background.start_soon(accounting.run, events)
            background.start_soon(events.log.ship, channel)
            await background.start(peers.run, host)
            await background.start(host.run)
            background.start_soon(self._serve_actors, following, built, runtime)
            panel.show()
            guard_cpu()
            await channel.send(IsolateReady(), (*panel.descriptors, marks))
            await following.run()
            background.cancel_scope.cancel()

    async def _serve_actors(self, following: Following, built: Environment, runtime: BindingRuntime) -> None:
        """Begin what concerns actors once this isolate is one of those that they live in."""
        await following.placed.wait()
        host, config = following.host, self._config
        await keep_schedule(self._store, self._clock, config.name, config.crons, host.owns)
        host.timers_changed()
        for kind, bindings in built.used:
            following.background.start_soon(kind.serve, bindings, runtime)

    async def _watch_store(self, *scopes: trio.CancelScope) -> None:
        try:
            await self._store.failed
        except StoreFailed:
            _log.exception("a commit failed; this isolate ends and acknowledges nothing more")
            self._exit_code = EXIT_STORE_FAILED
            for scope in scopes:
                scope.cancel()
