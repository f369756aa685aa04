"""Restate: its server, and a Python app that it calls over HTTP."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.peers import row
from bench.peers.http_load import NEW, call, requests, rounds
from bench.peers.install import node_packages, node_version, python_environment, python_version
from bench.peers.started import Started, free_port, started
from bench.processes import HERE

NAME = "Restate"
_REGISTER_S = 60.0
_DURABILITY = "synced before a call or step is acknowledged: RocksDB and log on one node; what waits shares one"


def rows(scale: float = 1.0) -> Iterator[row.Row]:
    home = node_packages("restate_server", "@restatedev/restate-server@1")
    python = python_environment("restate", "restate-sdk>=1,<2", "hypercorn==0.18.*")
    version = f"{node_version(home, '@restatedev/restate-server')}, sdk {python_version(python, 'restate-sdk')}"
    system = row.System(NAME, version, _DURABILITY)
    admin_port, ingress_port = free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "restate.toml"
        config.write_text(_config(admin_port, ingress_port))
        command = [home / "node_modules/.bin/restate-server", "--config-file", config, "--base-dir", f"{folder}/data"]
        with (
            started(command, cwd=Path(folder)) as server,
            _app(python, "calls", admin_port, use_http_11=False) as calls,
            # Over HTTP/2, calls to one object were seen to hang.
            _app(python, "objects", admin_port, use_http_11=True) as objects,
        ):
            all_of_it = [server, calls, objects]

            def drive(path: str, count: int, clients: int, operations: int = 1) -> row.Drive:
                load = int(count * scale)
                return requests(ingress_port, "POST", path, count=load, clients=clients, operations=operations)

            yield row.measure(
                system, all_of_it, row.HELLO, drive("/Greeter/hello", 800, 8), "a call of a service, which it logs"
            )
            yield row.measure(system, all_of_it, row.ONE_OBJECT, drive("/Counter/one/increment", 200, 1))
            yield row.measure(system, all_of_it, row.BUSY_OBJECT, drive("/Counter/one/increment", 640, 32))
            run = f"/Steps/{NEW}/run"
            yield row.measure(system, all_of_it, row.STEPS_ALONE, drive(run, 40, 1, row.STEPS))
            load = int(8 * scale)
            together = rounds(ingress_port, "POST", run, count=load, together=row.TOGETHER, operations=row.STEPS)
            yield row.measure(system, all_of_it, row.STEPS_TOGETHER, together, "each instance is a request of its own")


def _config(admin_port: int, ingress_port: int) -> str:
    return f"""
cluster-name = "bench"
node-name = "one"
listen-mode = "tcp"
disable-telemetry = true
bind-ip = "127.0.0.1"
bind-port = {free_port()}
log-filter = "warn"
[ingress]
bind-ip = "127.0.0.1"
bind-port = {ingress_port}
[admin]
bind-ip = "127.0.0.1"
bind-port = {admin_port}
"""


@contextmanager
def _app(python: Path, name: str, admin_port: int, *, use_http_11: bool) -> Iterator[Started]:
    """One of the apps of `restate_app`, of which the server knows."""
    port = free_port()
    command = [python, "-m", "hypercorn", f"restate_app:{name}", "--bind", f"127.0.0.1:{port}"]
    with started(command, cwd=HERE / "peers/apps") as app:
        app.wait_answering(port)
        _register(admin_port, port, use_http_11)
        yield app


def _register(admin_port: int, app_port: int, use_http_11: bool) -> None:
    body = json.dumps({"uri": f"http://127.0.0.1:{app_port}", "use_http_11": use_http_11}).encode()
    deadline = time.monotonic() + _REGISTER_S
    while True:
        try:
            call(admin_port, "POST", "/deployments", body)
            return
        except (OSError, RuntimeError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
