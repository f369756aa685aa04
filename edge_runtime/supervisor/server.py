"""The server: everything that the supervisor does, from the lock on the data directory to the last isolate's end."""

from __future__ import annotations

import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import trio

from edge_runtime.config.model import SectionReader
from edge_runtime.errors import EdgeError, ScriptError, UsageError
from edge_runtime.supervisor.data_dir import DataDirectory
from edge_runtime.supervisor.ingress import Ingress
from edge_runtime.supervisor.listeners import open_tcp, open_unix, raise_descriptor_limit
from edge_runtime.supervisor.reload import watch
from edge_runtime.supervisor.report import Report
from edge_runtime.supervisor.sources import read_version
from edge_runtime.supervisor.spawner import Spawner, ZygoteDied
from edge_runtime.supervisor.worker import Worker, WorkerUnavailable, WorkerVersion
from edge_runtime.supervisor.zygote import ZygoteHandle

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1


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
    """Folders of workers to serve from where they are; deployments in the data directory are served besides."""
    environment: str | None
    grace_s: float
    """For events in progress when an isolate or the server ends."""
    watch: bool
    """Reload the workers in `workers` when their files change."""


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
    """
    try:
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
        kinds: Sequence[SectionReader] | None,
    ) -> None:
        if kinds is None:
            from bindings.kind import load_kinds

            kinds = load_kinds()
        self._options = options
        self._directory = directory
        self._report = report
        self._kinds = kinds
        self._spawner = Spawner(zygote)
        self._workers: dict[str, Worker] = {}
        self._ingress = Ingress(self._workers, report, development=options.development)
        self._stopping = trio.Event()
        self._starting_scope = trio.CancelScope()
        self._nursery: trio.Nursery

    async def run(self) -> int:
        raise_descriptor_limit()
        listeners = open_tcp(self._options.host, self._options.port)
        failure: list[EdgeError] = []
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._follow_signals)
                nursery.start_soon(self._follow_zygote, failure)
                with self._starting_scope:
                    try:
                        versions = await self._read_all()
                    except EdgeError as error:
                        failure.append(error)
                        self._stopping.set()
                    else:
                        await self._serve(versions, listeners)
                await self._drain()
                nursery.cancel_scope.cancel()
        finally:
            for listener in listeners:
                listener.close()
            self._spawner.close()
        if failure:
            raise failure[0]
        return EXIT_OK

    async def _read_all(self) -> list[tuple[Path, WorkerVersion]]:
        found: dict[str, tuple[Path, WorkerVersion]] = {}
        for folder in self._options.workers:
            version = await self._read(folder)
            name = version.config.name
            if name in found:
                raise UsageError(f"two workers are named {name}: {found[name][0]} and {folder}; names must differ")
            found[name] = (folder, version)
        return list(found.values())

    async def _read(self, folder: Path) -> WorkerVersion:
        return await read_version(
            folder,
            self._directory,
            self._kinds,
            self._report,
            environment=self._options.environment,
            development=self._options.development,
        )

    async def _serve(self, versions: list[tuple[Path, WorkerVersion]], listeners: list[socket.socket]) -> None:
        port = listeners[0].getsockname()[1]
        for _, version in versions:
            await self._add(version)
        self._nursery.start_soon(self._ingress.serve, [*listeners, open_unix(self._directory.ingress_socket)])
        if self._options.development:
            # Ready means ready: the first request does not wait, and an error of the script is seen first.
            async with trio.open_nursery() as nursery:
                for worker in self._workers.values():
                    nursery.start_soon(self._first_start, worker)
        for folder, version in versions:
            if self._options.watch:
                changed = partial(self._reload, folder, self._workers[version.config.name])
                self._nursery.start_soon(watch, version.config.root, self._directory.path, changed)
        host = f"[{self._options.host}]" if ":" in self._options.host else self._options.host or "0.0.0.0"
        self._report.ready(f"http://{host}:{port}")
        await self._stopping.wait()

    async def _add(self, version: WorkerVersion) -> Worker:
        worker = Worker(version, self._spawner, self._report, grace_s=self._options.grace_s)
        await self._nursery.start(worker.run)
        self._workers[worker.name] = worker
        self._ingress.routes_changed()
        return worker

    async def _first_start(self, worker: Worker) -> None:
        try:
            await worker.isolate()
        except WorkerUnavailable:
            return  # reported where it failed; requests are told, and a change of the files starts it again

    async def _reload(self, folder: Path, worker: Worker) -> None:
        try:
            version = await self._read(folder)
            if version.task == worker.version.task:
                return
            if version.config.name != worker.name:
                raise UsageError(
                    f"the worker's name changed from {worker.name} to {version.config.name}: restart the server"
                )
            await worker.replace(version)
            self._ingress.routes_changed()
        except ScriptError as error:
            worker.fail(str(error), error.detail)
        except EdgeError as error:
            worker.fail(str(error), "")

    async def _follow_zygote(self, failure: list[EdgeError]) -> None:
        try:
            await self._spawner.run()
        except* ZygoteDied as group:
            error = group.exceptions[0]
            assert isinstance(error, ZygoteDied)
            failure.append(error)
            self._stop()

    async def _follow_signals(self) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            async for _ in signals:
                if self._stopping.is_set():
                    for worker in self._workers.values():
                        worker.kill()
                self._stop()

    def _stop(self) -> None:
        self._stopping.set()
        self._starting_scope.cancel()

    async def _drain(self) -> None:
        async with trio.open_nursery() as nursery:
            for worker in self._workers.values():
                nursery.start_soon(worker.stop)
