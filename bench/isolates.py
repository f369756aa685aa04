"""Isolates of one worker without a server around them, for measuring them alone."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from bindings.kind import load_kinds
from edge_runtime.config.model import WorkerConfig
from edge_runtime.control import AskedBySomeIsolate, Members, Pong
from edge_runtime.log_lines import LogLine
from edge_runtime.supervisor.data_dir import DataDirectory
from edge_runtime.supervisor.isolate import IsolateHandle
from edge_runtime.supervisor.sources import read_version
from edge_runtime.supervisor.spawner import Spawner
from edge_runtime.supervisor.template_handle import TemplateHandle
from edge_runtime.supervisor.zygote import ZygoteHandle


class Nobody:
    """Hears what isolates and the server report, and says nothing of it."""

    def isolate_logged(self, lines: tuple[LogLine, ...]) -> None: ...
    def isolate_answered(self, isolate: IsolateHandle, pong: Pong) -> None: ...
    def isolate_blocked(self, isolate: IsolateHandle, for_s: float, stack: list[tuple[str, int, str]]) -> None: ...
    def isolate_drained(self, isolate: IsolateHandle) -> None: ...
    def isolate_released(self, isolate: IsolateHandle, number: int) -> None: ...
    def isolate_asked(self, isolate: IsolateHandle, message: AskedBySomeIsolate) -> None: ...
    def ready(self, url: str) -> None: ...
    def log(self, worker: str, line: LogLine) -> None: ...
    def output(self, worker: str, line: str) -> None: ...
    def worker_loaded(self, worker: str, version: str, startup_cpu_us: int) -> None: ...
    def worker_failed(self, worker: str, message: str, detail: str) -> None: ...
    def isolate_died(self, worker: str, pid: int, reason: str, restart_in_s: float) -> None: ...
    def notice(self, text: str) -> None: ...


class Isolates:
    def __init__(self, template: TemplateHandle, config: WorkerConfig, nursery: trio.Nursery) -> None:
        self._template = template
        self._config = config
        self._nursery = nursery
        self._count = 0

    async def fork(self) -> IsolateHandle:
        """An isolate in which the worker's actors live, as if it were the only one."""
        number = self._count = self._count + 1
        isolate = await self._template.fork(number, self._config.limits)
        self._nursery.start_soon(isolate.run, Nobody())
        isolate.tell(Members(self._config.name, number, 1, (number,), (number,), releasing=False))
        return isolate


@asynccontextmanager
async def isolates_of(folder: Path, zygote: ZygoteHandle) -> AsyncIterator[Isolates]:
    """A loaded template of the worker in `folder`, on a data directory of its own. The zygote ends with the block."""
    try:
        with tempfile.TemporaryDirectory() as data:
            directory = DataDirectory(Path(data))
            with directory.lock():
                spawner = Spawner(zygote, lambda worker, line: None, lambda text: None)
                async with trio.open_nursery() as nursery:
                    await nursery.start(spawner.run)
                    version = await read_version(
                        folder, directory, load_kinds(), Nobody(), environment=None, development=False
                    )
                    template = await spawner.load(version.task)
                    yield Isolates(template, version.config, nursery)
                    nursery.cancel_scope.cancel()
                spawner.close()
    finally:
        zygote.kill()


async def request(isolate: IsolateHandle, head: bytes = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n") -> bytes:
    """Hand a connection over on which a request waits, as the ingress does, and return what came back first."""
    ours, theirs = trio.socket.socketpair()
    with ours, theirs:
        await ours.send(head)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(isolate.hand_over, theirs.fileno())
            answer = bytes(await ours.recv(65536))
            nursery.cancel_scope.cancel()  # when the handover is acknowledged does not concern the client
        return answer
