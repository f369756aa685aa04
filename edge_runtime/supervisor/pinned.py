"""The versions of workers that workflow instances are pinned to. Each is a worker of its own, with its own isolates.

It wakes when one of its instances is due, goes back to sleep, and is removed once it is not the newest any more and no
instance is left that is pinned to it; finished instances count as long as they are retained, since they can be
restarted from a step.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

import msgspec
import trio

from edge_runtime.config.model import pinned_config
from edge_runtime.config.pinned import pinned_name
from edge_runtime.errors import EdgeError
from edge_runtime.limits import PINNED_LOOK_S
from edge_runtime.store.api import Store
from edge_runtime.supervisor.deployments import Deployment, Deployments
from edge_runtime.supervisor.report import Report
from edge_runtime.supervisor.worker import Worker
from edge_runtime.supervisor.worker_records import WorkerVersion
from edge_runtime.workflows.stored.instances import pinned_versions


class PinnedVersions:
    def __init__(
        self,
        deployments: Deployments,
        report: Report,
        workers: dict[str, Worker],
        *,
        read: Callable[[Deployment], Awaitable[WorkerVersion]],
        add: Callable[[WorkerVersion], Awaitable[Worker]],
        removed: Callable[[], None],
    ) -> None:
        """`workers` are all of the server, these included. `read` and `add` are for what is in `deployments`."""
        self._deployments = deployments
        self._report = report
        self._workers = workers
        self._read = read
        self._add = add
        self._removed = removed
        self._newest: dict[str, str] = {}
        self._store: Store | None = None
        self._changing = trio.Lock()

    async def restore(self, store: Store) -> None:
        """Begin with what is stored. Versions whose files are gone or wrong are reported; their instances wait."""
        self._store = store
        for worker, version in self._in_use(store):
            async with self._changing:
                if pinned_name(worker, version) not in self._workers:
                    await self._restore(worker, version)

    async def _restore(self, worker: str, version: str) -> None:
        name = pinned_name(worker, version)
        deployment = await trio.to_thread.run_sync(self._deployments.find, worker, version)
        if deployment is None:
            self._report.worker_failed(name, f"the files of version {version} are gone; what is pinned to it waits", "")
            return
        try:
            await self._add(_of_version(await self._read(deployment), deployment))
        except EdgeError as error:
            self._report.worker_failed(name, str(error), "")

    async def begin(self, version: WorkerVersion, deployment: Deployment) -> None:
        """A version is the newest of its worker from now on, and instances are pinned to it."""
        self._newest[deployment.worker] = deployment.version
        async with self._changing:
            if pinned_name(deployment.worker, deployment.version) not in self._workers:
                await self._add(_of_version(version, deployment))

    def end(self, worker: str) -> None:
        """The newest version of a worker pins nothing."""
        self._newest.pop(worker, None)

    def needed(self, worker: str) -> set[str] | None:
        """The versions of a worker whose files must stay; None as long as that is not known."""
        if self._store is None:
            return None
        found = {version for name, version in self._in_use(self._store) if name == worker}
        return found | ({self._newest[worker]} if worker in self._newest else set())

    def _in_use(self, store: Store) -> list[tuple[str, str]]:
        with store.snapshot() as snapshot:
            return list(pinned_versions(snapshot))

    async def run(self) -> None:
        """After `restore`: remove what is not needed any more, until cancelled."""
        assert self._store is not None, "this is for afterwards"
        while True:
            await trio.sleep(PINNED_LOOK_S)
            await self._tidy(self._store)

    async def _tidy(self, store: Store) -> None:
        async with self._changing:
            in_use = set(self._in_use(store))
            for name, worker in list(self._workers.items()):
                config = worker.version.config
                if config.pinned is None or self._newest.get(config.name) == config.pinned or not worker.asleep:
                    continue
                if (config.name, config.pinned) in in_use:
                    worker.rest()
                    continue
                del self._workers[name]
                await worker.stop()
                worker.abandon()
                self._removed()


def _of_version(version: WorkerVersion, deployment: Deployment) -> WorkerVersion:
    """The version as it runs what is pinned to it: from the files that are kept, which do not change."""
    config = version.config
    file = deployment.folder / config.file.relative_to(config.root)
    main = None if config.main is None else deployment.folder / config.main.relative_to(config.root)
    config = replace(config, file=file, root=deployment.folder, main=main)
    task = msgspec.structs.replace(
        version.task, worker=pinned_name(config.name, deployment.version), config_file=str(file), pinned=True
    )
    return WorkerVersion(pinned_config(config, deployment.version), task)
