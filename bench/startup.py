"""How long from `edge dev` to the first response, and from Ctrl-C to the end with connections open?"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from bench.figure import Figure
from bench.processes import HERE

ROUNDS = 5
_REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def run() -> Iterator[Figure]:
    figures = [_once() for _ in range(ROUNDS)]
    starts_s, ends_s = (sorted(times)[ROUNDS // 2] for times in zip(*figures, strict=True))
    yield Figure("edge dev to the first response, median", starts_s, "s", bound=2)
    yield Figure("Ctrl-C to exit with open connections, median", ends_s, "s", bound=3)


def _once() -> tuple[float, float]:
    port = _free_port()
    with tempfile.TemporaryDirectory() as data:
        command = [sys.executable, "-m", "edge_runtime", "dev", HERE / "workers/hello_trio", "--data", data]
        started = time.perf_counter()
        with subprocess.Popen(
            [*map(str, command), "--port", str(port)], stdout=subprocess.DEVNULL, start_new_session=True
        ) as process:
            clients = [_answered(port)]
            start_s = time.perf_counter() - started
            clients += [_answered(port) for _ in range(3)]
            interrupted = time.perf_counter()
            os.killpg(process.pid, signal.SIGINT)
            process.wait()
            end_s = time.perf_counter() - interrupted
            for client in clients:
                client.close()
    return start_s, end_s


def _answered(port: int) -> socket.socket:
    """A connection that has had one answer and stays open; tried until the server listens."""
    while True:
        try:
            client = socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            time.sleep(0.005)
            continue
        client.sendall(_REQUEST)
        assert client.recv(65536).startswith(b"HTTP/1.1 200")
        return client


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
