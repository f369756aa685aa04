from __future__ import annotations

import os
import signal
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import trio
from edge_process import PATIENCE_S
from fake_isolates import RecordingReport, fake_runtime

from edge_runtime.supervisor.server import ServerOptions, run_server
from edge_runtime.supervisor.zygote import start_zygote


@dataclass
class RunningServer:
    report: RecordingReport
    port: int
    exit_code: int | None = None

    async def connect(self):
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    async def get(self, path, host="localhost"):
        """Status and body of one request on a connection of its own."""
        answer = await self.send(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split(b" ")[1]), body.decode()

    async def send(self, *pieces):
        """All that comes back for raw bytes until the server closes; b"" if the connection is reset."""
        answer = b""
        stream = await self.connect()
        async with stream:
            try:
                for piece in pieces:
                    await stream.send_all(piece)
                    await trio.sleep(0.005)
                async for data in stream:
                    answer += data
            except trio.BrokenResourceError:
                pass
        return answer


@pytest.fixture
def zygote():
    handle = start_zygote(fake_runtime)
    yield handle
    if os.path.exists(f"/proc/{handle.pid}"):
        handle.kill()


@pytest.fixture
def serve(zygote, tmp_path):
    """`async with serve(folder, ...) as server`: a server on fake isolates, ended as by Ctrl-C."""

    @asynccontextmanager
    async def serving(*folders, development=True, watch=False, grace_s=0.3, data=None):
        report = RecordingReport()
        options = ServerOptions(
            host="localhost",
            port=0,
            data_dir=data or tmp_path / "data",
            development=development,
            workers=folders,
            environment=None,
            grace_s=grace_s,
            watch=watch,
        )
        server = RunningServer(report, 0)
        ended = trio.Event()

        async def run():
            try:
                server.exit_code = await run_server(options, zygote, report, ())
            finally:
                ended.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await report.wait_for(lambda report: report.urls)
            server.port = int(report.urls[0].rpartition(":")[2])
            try:
                yield server
            finally:
                if not ended.is_set():
                    os.kill(os.getpid(), signal.SIGINT)
                with trio.CancelScope(shield=True):
                    with trio.move_on_after(PATIENCE_S):
                        await ended.wait()
                    assert ended.is_set(), "the server does not end"

    return serving
