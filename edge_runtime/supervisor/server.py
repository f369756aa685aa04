"""The server: everything that the supervisor does, from the lock on the data directory to the last isolate's end."""

from __future__ import annotations

import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import trio

from edge_runtime.config.model import SectionReader
from edge_runtime.errors import EdgeError
from edge_runtime.seams import SystemClock
from edge_runtime.store.lmdb_store import open_store
from edge_runtime.supervisor.cpu_alarm import follow_cpu_alarms
from edge_runtime.supervisor.data_dir import DataDirectory
from edge_runtime.supervisor.fleet import Fleet
from edge_runtime.supervisor.ingress import Ingress
from edge_runtime.supervisor.listeners import open_tcp, open_unix, raise_descriptor_limit
from edge_runtime.supervisor.reload import watch
from edge_runtime.supervisor.report import Report
from edge_runtime.supervisor.spawner import Spawner, ZygoteDied
from edge_runtime.supervisor.wakeups import Wakeups
from edge_runtime.supervisor.worker import Worker
from edge_runtime.supervisor.worker_records import WorkerUnavailable
from edge_runtime.supervisor.zygote import ZygoteHandle

EXIT_OK: Final = 0


@dataclass(frozen=True, slots=True)
class ServerOptions:
    host: str
    """A name or address; "localhost" stands for both loopback addresses, "" for all."""
    port: int
    """0: any free one; `Report.ready` tells which."""
    data_dir: Path
    development: bool
    """Show scripts' errors to clients."""
    workers: tuple[Path, ...]
    """Folders of workers to serve from where they are; deployments in the data directory are served besides, except
    in development."""
    environment: str | None
    grace_s: float
    """For events in progress when an isolate or the server ends."""
    watch: bool
    """Reload the workers in `workers` when their files change."""
    variables: tuple[tuple[str, str], ...] = ()
    """Set over the vars of the workers in `workers`."""


async def run_server(
    options: ServerOptions, zygote: ZygoteHandle, report: Report, kinds: Sequence[SectionReader] | None = None
) -> int:
    """Serve until SIGINT, SIGTERM or SIGHUP, then drain within the grace and return the exit code.

    A second signal ends everything at once. The zygote is ended too. `kinds` are the binding kinds, by default all
    that are registered.

    Raises:
        DataDirectoryInUse, StoreError: the data directory cannot be had.
        UsageError, ConfigError: an address or a worker's configuration is wrong. A script that does not load is no
            error: requests for it are answered with one until it is replaced.
        ZygoteDied: no isolate can be started any more.
    """
    try:
        if kinds is None:
            from bindings.kind import load_kinds

            kinds = load_kinds()
        directory = DataDirectory(options.data_dir)
        with directory.lock():
            return await _Server(options, directory, zygote, report, kinds).run()
    finally:
        zygote.kill()


class _Server:
    def __init__(
        self,
        options: ServerOptions,
        directory: DataDirectory,
        zygote: ZygoteHandle,
        report: Report,
        kinds: Sequence[SectionReader],
    ) -> None:
        self._options = options
        self._directory = directory
        self._report = report
        self._kinds = kinds
        self._spawner = Spawner(zygote, report.output, report.notice)
        self._stopping = trio.Event()
        self._serving = trio.CancelScope()
        self._failure: EdgeError | None = None
        self._fleet: Fleet

    async def run(self) -> int:
        raise_descriptor_limit()
        listeners = open_tcp(self._options.host, self._options.port)
        try:
            async with trio.open_nursery() as nursery:
                self._fleet = self._make_fleet(nursery)
                nursery.start_soon(self._follow_zygote)
                nursery.start_soon(self._follow_signals)
                nursery.start_soon(follow_cpu_alarms)
                with self._serving:
                    await self._serve(listeners)
                await self._fleet.drain()
                nursery.cancel_scope.cancel()
        finally:
            for listener in listeners:
                listener.close()
            self._spawner.close()
        if self._failure is not None:
            raise self._failure
        return EXIT_OK

    def _make_fleet(self, nursery: trio.Nursery) -> Fleet:
        return Fleet(
            self._directory,
            self._spawner,
            self._report,
            self._kinds,
            nursery,
            development=self._options.development,
            environment=self._options.environment,
            variables=self._options.variables,
            grace_s=self._options.grace_s,
        )

    async def _serve(self, listeners: list[socket.socket]) -> None:
        """Bring everything up and serve until `_serving` is cancelled. An EdgeError is kept as the failure."""
        fleet = self._fleet
        try:
            port = listeners[0].getsockname()[1]
            folders = await fleet.add_folders(self._options.workers)
            if not self._options.development:
                await fleet.restore()
            async with AsyncExitStack() as stack:
                store = await stack.enter_async_context(open_store(self._directory.store, readonly=True))
                await fleet.pinned.restore(store)
                ingress = Ingress(fleet.workers, self._report, development=self._options.development)
                ingress.routes_changed()
                wakeups = Wakeups(store, SystemClock(), fleet.workers.values)
                fleet.routes_changed, fleet.look_for_timers = ingress.routes_changed, wakeups.look_now
                fleet.take_back = ingress.take_back
                inner = open_unix(self._directory.ingress_socket)
                admin = open_unix(self._directory.admin_socket)
                nursery = await stack.enter_async_context(trio.open_nursery())
                nursery.start_soon(ingress.serve, [*listeners, inner])
                nursery.start_soon(self._serve_admin, admin)
                await self._first_starts()
                nursery.start_soon(wakeups.run)
                nursery.start_soon(fleet.pinned.run)
                if self._options.watch:
                    for folder, worker in folders:
                        changed = partial(fleet.reload, folder, worker)
                        await nursery.start(watch, worker.version.config.root, self._directory.path, changed)
                self._report.ready(self._url(port))
                await self._stopping.wait()
                nursery.cancel_scope.cancel()
        except EdgeError as error:
            self._failure = error

    async def _first_starts(self) -> None:
        """In development every worker starts now: the first request does not wait, and errors are seen first.

        In production those with cron triggers do, which they write to the store; the others start on demand.
        """
        async with trio.open_nursery() as nursery:
            for worker in self._fleet.workers.values():
                if worker.version.config.pinned is not None:
                    continue  # its timers wake it
                if self._options.development:
                    nursery.start_soon(_first_start, worker)
                elif worker.version.config.crons:
                    worker.wake()

    async def _serve_admin(self, listener: socket.socket) -> None:
        with listener:
            # Most servers in development are never asked anything, and the import takes 300 ms.
            await trio.lowlevel.wait_readable(listener)
            serve = await trio.to_thread.run_sync(_import_admin, self._fleet)
            await serve(listener)

    def _url(self, port: int) -> str:
        host = self._options.host or "0.0.0.0"
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def _follow_zygote(self) -> None:
        try:
            await self._spawner.run()
        except* ZygoteDied as group:
            self._failure = next(error for error in group.exceptions if isinstance(error, ZygoteDied))
            self._stop()

    async def _follow_signals(self) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            async for _ in signals:
                if self._stopping.is_set():
                    self._fleet.kill()
                self._stop()

    def _stop(self) -> None:
        self._stopping.set()
        self._serving.cancel()


async def _first_start(worker: Worker) -> None:
    try:
        await worker.isolate()
    except WorkerUnavailable:
        return  # reported where it failed; clients are told, and a change of the files starts it again


def _import_admin(fleet: Fleet) -> Callable[[socket.socket], Awaitable[None]]:
    from edge_runtime.supervisor.admin import make_admin_app
    from edge_runtime.supervisor.admin_server import serve_unix

    return partial(serve_unix, app=make_admin_app(fleet))
