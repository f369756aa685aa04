"""The workers of one server: added at the start, replaced by deploys and reloads, drained at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec
import trio

from edge_runtime.config.model import SectionReader
from edge_runtime.config.pinned import worker_of
from edge_runtime.errors import EdgeError, ScriptError, UsageError
from edge_runtime.supervisor.admin_errors import NoSuchWorker, NotHere
from edge_runtime.supervisor.data_dir import DataDirectory
from edge_runtime.supervisor.deployments import Deployment, Deployments
from edge_runtime.supervisor.introductions import Introductions
from edge_runtime.supervisor.pinned import PinnedVersions
from edge_runtime.supervisor.report import Report
from edge_runtime.supervisor.sources import read_version
from edge_runtime.supervisor.spawner import Spawner
from edge_runtime.supervisor.worker import Worker, nobody_takes
from edge_runtime.supervisor.worker_records import WorkerStatus, WorkerUnavailable, WorkerVersion


class Fleet:
    def __init__(
        self,
        directory: DataDirectory,
        spawner: Spawner,
        report: Report,
        kinds: Sequence[SectionReader],
        nursery: trio.Nursery,
        *,
        development: bool,
        environment: str | None,
        variables: tuple[tuple[str, str], ...],
        grace_s: float,
    ) -> None:
        self.development = development
        self.workers: dict[str, Worker] = {}
        self.routes_changed: Callable[[], None] = lambda: None
        self.look_for_timers: Callable[[], None] = lambda: None
        self.take_back = nobody_takes
        self._directory = directory
        self._spawner = spawner
        self._report = report
        self._kinds = kinds
        self._nursery = nursery
        self._environment = environment
        self._variables = variables
        self._grace_s = grace_s
        self._deployments = Deployments(directory.deployments)
        self._deploying = trio.Lock()
        self.pinned = PinnedVersions(
            self._deployments,
            report,
            self.workers,
            read=self._read_deployment,
            add=self._add,
            removed=lambda: self.routes_changed(),
        )
        self._fixed: set[str] = set()
        self._introductions = Introductions(self.workers, nursery, self._timers_written)

    async def add_folders(self, folders: Sequence[Path]) -> list[tuple[Path, Worker]]:
        """Serve workers from where they are. Raises UsageError and ConfigError before any is added."""
        found: dict[str, tuple[Path, WorkerVersion]] = {}
        for folder in folders:
            version = await self._read_folder(folder)
            name = version.config.name
            if name in found:
                raise UsageError(f"two workers are named {name}: {found[name][0]} and {folder}; names must differ")
            found[name] = (folder, version)
        self._fixed.update(found)
        added = [(folder, await self._add(version)) for folder, version in found.values()]
        for _, version in found.values():
            await self._is_newest(version)
        return added

    async def restore(self) -> None:
        """Serve what is deployed in the data directory, except where a folder's worker has the same name.

        A version that cannot be read any more is reported and left out.
        """
        for deployment in await trio.to_thread.run_sync(lambda: list(self._deployments.current())):
            if deployment.worker in self._fixed:
                continue
            try:
                version = await self._read_deployment(deployment)
                await self._add(version)
                await self._is_newest(version)
            except EdgeError as error:
                self._report.worker_failed(deployment.worker, str(error), "")

    async def reload(self, folder: Path, worker: Worker) -> None:
        """Serve what is in a worker's folder now. What is wrong with it goes to the report and to its clients."""
        try:
            version = await self._read_folder(folder)
            if version.task == worker.version.task:
                return
            if version.config.name != worker.name:
                raise UsageError(
                    f"the worker's name changed from {worker.name} to {version.config.name}: restart the server"
                )
            await worker.replace(version)
            self.routes_changed()
            await self._is_newest(version)
        except ScriptError as error:
            worker.fail(str(error), error.detail)
        except (EdgeError, OSError) as error:
            worker.fail(str(error), "")

    async def drain(self) -> None:
        """End all isolates within the grace."""
        async with trio.open_nursery() as nursery:
            for worker in self.workers.values():
                nursery.start_soon(worker.stop)

    def kill(self) -> None:
        for worker in self.workers.values():
            worker.kill()

    # What the admin API acts on (admin.Administered).

    def statuses(self) -> list[WorkerStatus]:
        return [worker.status() for _, worker in sorted(self.workers.items())]

    async def deploy(self, bundle: bytes, environment: str | None) -> tuple[str, str]:
        """Serve a bundle's worker, under the name in its configuration; returns name and version.

        The new version must load and start, or else the one before serves again and the error is raised. Only a
        version that did is restored when the server starts again.
        """
        if self.development:
            raise NotHere("this server runs a folder in development; deploy to a server started with `edge run`")
        async with self._deploying:
            version, incoming = await trio.to_thread.run_sync(self._deployments.receive, bundle)
            name = (await self._read(incoming, environment, version)).config.name
            if name in self._fixed:
                raise NotHere(f"this server serves worker {name} from a folder; change it there")
            deployment = await trio.to_thread.run_sync(self._deployments.keep, name, version, environment)
            try:
                loaded = await self._read_deployment(deployment)
                await self._put_to_work(loaded)
            except BaseException:
                with trio.CancelScope(shield=True):
                    needed = self.pinned.needed(name)
                    assert needed is not None, "deployments come once the server serves"
                    await trio.to_thread.run_sync(self._deployments.discard, deployment, needed)
                raise
            await trio.to_thread.run_sync(self._deployments.make_current, deployment)
            await self._is_newest(loaded)
            return name, version

    async def _is_newest(self, version: WorkerVersion) -> None:
        """See to it that what is pinned to a version that serves now can run, and remove versions that nobody needs."""
        name = version.config.name
        if version.pins:
            deployment = await trio.to_thread.run_sync(self._deployments.find, name, version.task.version)
            assert deployment is not None, "a version is kept before it serves"
            await self.pinned.begin(version, deployment)
        else:
            self.pinned.end(name)
        if (needed := self.pinned.needed(name)) is not None:
            await trio.to_thread.run_sync(self._deployments.remove_old, name, needed)
        self.look_for_timers()

    def timers_changed(self, worker: str) -> None:
        """Of the worker and of all its versions."""
        self._timers_written(self._find(worker))
        for name, each in list(self.workers.items()):
            if name != worker and worker_of(name) == worker:
                self._timers_written(each)

    async def run_scheduled(self, worker: str, cron: str, scheduled_ms: int) -> None:
        await self._find(worker).run_scheduled(cron, scheduled_ms)

    async def list_objects(self, worker: str, namespace: str) -> list[str]:
        return await self._find(worker).list_objects(namespace)

    def _timers_written(self, worker: Worker) -> None:
        worker.timers_changed()
        self.look_for_timers()

    def _find(self, name: str) -> Worker:
        worker = self.workers.get(name)
        if worker is None:
            raise NoSuchWorker(name)
        return worker

    async def _put_to_work(self, version: WorkerVersion) -> None:
        """Replace or add a worker, or leave everything as it was and raise."""
        existing = self.workers.get(version.config.name)
        before = None if existing is None else existing.version
        worker = await self._make(version) if existing is None else existing
        try:
            await worker.replace(version)
            await worker.isolate()
        except (EdgeError, trio.Cancelled) as error:
            if before is None:
                worker.abandon()
            elif worker.version is version and isinstance(error, EdgeError):
                await worker.replace(before)
            if isinstance(error, WorkerUnavailable):
                raise ScriptError(str(error), error.detail) from None
            raise
        self.workers[worker.name] = worker
        self.routes_changed()

    async def _add(self, version: WorkerVersion) -> Worker:
        worker = await self._make(version)
        self.workers[worker.name] = worker
        self.routes_changed()
        return worker

    async def _make(self, version: WorkerVersion) -> Worker:
        worker = Worker(
            version,
            self._spawner,
            self._report,
            grace_s=self._grace_s,
            asked=self._introductions.asked,
            take_back=lambda worker, isolate: self.take_back(worker, isolate),
        )
        await self._nursery.start(worker.run)
        return worker

    async def _read_folder(self, folder: Path) -> WorkerVersion:
        version = await self._read(folder, self._environment, None, self._variables)
        if not version.pins:
            return version
        keep = partial(self._deployments.keep_copy, without=self._directory.path)
        config = version.config
        async with self._deploying:
            copy = await trio.to_thread.run_sync(keep, config.name, config.root, self._environment)
        return replace(version, task=msgspec.structs.replace(version.task, version=copy.version))

    async def _read_deployment(self, deployment: Deployment) -> WorkerVersion:
        variables = self._variables if deployment.worker in self._fixed else ()
        return await self._read(deployment.folder, deployment.environment, deployment.version, variables)

    async def _read(
        self,
        folder: Path,
        environment: str | None,
        version: str | None,
        variables: tuple[tuple[str, str], ...] = (),
    ) -> WorkerVersion:
        read = partial(read_version, folder, self._directory, self._kinds, self._report)
        return await read(environment=environment, development=self.development, version=version, variables=variables)
