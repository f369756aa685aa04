"""A small isolate that speaks the control protocol and serves one HTTP/1.1 request per connection.

Its scripts define `handle(path) -> str`, called on the event loop, and may define `NEXT_DUE_MS`.
"""

from __future__ import annotations

import faulthandler
import importlib
import os
import socket
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

import trio

from edge_runtime.config.load import load_config
from edge_runtime.control import (
    Connection,
    Drained,
    IsolateReady,
    Members,
    MembersReleased,
    Ping,
    Pong,
    Retire,
    RunScheduled,
    TimersChanged,
)
from edge_runtime.errors import ScriptError
from edge_runtime.log_lines import Log, LogLine
from edge_runtime.supervisor.template import ScriptRuntime
from edge_runtime.wire import Channel


def read_config(task):
    return load_config(Path(task.config_file), (), environment=task.environment)


def load_script(config):
    try:
        return importlib.import_module(config.main.stem)
    except SystemExit as error:
        raise ScriptError("the script called sys.exit", "") from error
    except Exception as error:
        raise ScriptError(f"the script failed: {error}", traceback.format_exc()) from error


def run_isolate(control, task, script, config):
    faulthandler.disable()  # pytest's would print the stacks of crashes made on purpose
    return trio.run(FakeIsolate(control, task, script or load_script(config)).run)


def fake_runtime():
    return ScriptRuntime(read_config, load_script, run_isolate)


class FakeIsolate:
    def __init__(self, control, task, script):
        self.channel = Channel(control)
        self.task = task
        self.script = script
        self.connections = 0
        self.pokes = []
        self.views = []

    async def run(self):
        async with trio.open_nursery() as nursery:
            if hasattr(self.script, "start"):
                self.script.start(self)
            await self.channel.send(IsolateReady())
            while (received := await self.channel.receive()) is not None:
                message, descriptors = received
                match message:
                    case Connection():
                        nursery.start_soon(self.serve, descriptors[0])
                    case Ping(number=number):
                        due = getattr(self.script, "NEXT_DUE_MS", None)
                        busy = getattr(self.script, "BUSY_ACTORS", 0)
                        used = getattr(self.script, "USED", False)
                        self.channel.send_soon(Pong(number, self.connections, 0, busy, due, used))
                    case TimersChanged() | RunScheduled():
                        self.pokes.append(message)
                    case Members():
                        self.views.append(message)
                        if message.releasing and getattr(self.script, "RELEASES", True):
                            await self.channel.send(MembersReleased(message.number))
                    case Retire(grace_s=grace_s):
                        if getattr(self.script, "RELEASES", True):
                            await self.channel.send(Drained())
                        nursery.start_soon(self.end, grace_s, nursery.cancel_scope)
            nursery.cancel_scope.cancel()
        return 0

    async def end(self, grace_s, scope):
        with trio.move_on_after(grace_s):
            while self.connections or not getattr(self.script, "RELEASES", True):
                await trio.sleep(0.01)
        scope.cancel()

    async def serve(self, descriptor):
        client = trio.socket.from_stdlib_socket(socket.socket(fileno=descriptor))
        self.connections += 1
        try:
            with client:
                head = b""
                while b"\r\n\r\n" not in head and (data := await client.recv(65536)):
                    head += data
                if b"\r\n\r\n" in head:
                    await self.answer(client, head.split(b" ")[1].decode())
        except OSError:
            pass
        finally:
            self.connections -= 1

    async def answer(self, client, path):
        if path == "/hang":
            await trio.sleep_forever()
        if path == "/flood":
            while True:
                await client.send(b"x" * 65536)
        body = self.builtin(path).encode()
        await client.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
        client.shutdown(socket.SHUT_WR)
        line = LogLine(int(time.time() * 1000), "fetch", "handle", path, "ok", 1, 1.0, "")
        self.channel.send_soon(Log.of([line]))

    def builtin(self, path):
        match path:
            case "/pid":
                return str(os.getpid())
            case "/version":
                return self.task.version
            case "/fds":
                return str(len(os.listdir("/proc/self/fd")))
            case "/preload":
                return str(self.task.preload)
            case "/pokes":
                return repr(self.pokes)
        return self.script.handle(path)


@dataclass
class RecordingReport:
    urls: list = field(default_factory=list)
    lines: list = field(default_factory=list)
    printed: list = field(default_factory=list)
    loaded: list = field(default_factory=list)
    failures: list = field(default_factory=list)
    deaths: list = field(default_factory=list)
    notices: list = field(default_factory=list)
    happened: trio.Event = field(default_factory=trio.Event)

    def _note(self, where, what):
        where.append(what)
        self.happened.set()
        self.happened = trio.Event()

    def ready(self, url):
        self._note(self.urls, url)

    def log(self, worker, line):
        self._note(self.lines, (worker, line))

    def output(self, worker, line):
        self._note(self.printed, (worker, line))

    def worker_loaded(self, worker, version, startup_cpu_us):
        self._note(self.loaded, (worker, version))

    def worker_failed(self, worker, message, detail):
        self._note(self.failures, (worker, message, detail))

    def isolate_died(self, worker, pid, reason, restart_in_s):
        self._note(self.deaths, (worker, pid, reason, restart_in_s))

    def notice(self, text):
        self._note(self.notices, text)

    async def wait_for(self, condition):
        """Return as soon as `condition(self)` holds; looked at after each report."""
        while not condition(self):
            await self.happened.wait()


def write_worker(folder, script, name="w", **config):
    """A worker's folder with this script; further keys go to its configuration."""
    import json

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "entry.py").write_text(script)
    settings = {"name": name, "main": "entry.py", "compatibility_date": "2026-05-01", **config}
    (folder / "wrangler.json").write_text(json.dumps(settings))
    return folder


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


HELLO = "def handle(path):\n    return 'hello ' + path\n"


def exists(pid):
    """Whether a process is there at all, be it a zombie."""
    return os.path.exists(f"/proc/{pid}")


def parent_of(pid):
    return int(Path(f"/proc/{pid}/status").read_text().split("PPid:")[1].split()[0])
