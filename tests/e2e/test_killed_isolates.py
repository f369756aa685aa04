"""An isolate that has to be killed: what becomes of the others who had something to do with it."""

import json
import re
import socket

import pytest
from edge_process import PATIENCE_S, EdgeProcess, eventually

CPU_MS = 200

SCRIPT = """
import os, pathlib, time, trio
from workers import DurableObject, Response, WorkerEntrypoint, WorkflowEntrypoint

HERE = pathlib.Path(__file__).parent


class Counter(DurableObject):
    async def wait(self):
        (HERE / "called").touch()
        await trio.sleep(60)

    async def pid(self):
        return os.getpid()


class Flow(WorkflowEntrypoint):
    async def run(self, event, step):
        async def attempt():
            may_end = (HERE / "go").exists()  # looked at before anybody is told of the attempt
            with open(HERE / "attempts", "a") as file:
                file.write(f"{os.getpid()}\\n")
            if not may_end:
                await trio.sleep(60)
            return os.getpid()

        return await step.do("step", {"retries": {"limit": 3, "delay": 0}}, attempt)


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        match request.url.rpartition("/")[2]:
            case "run_away":
                (HERE / "running").touch()
                sum(range(10**12))
            case "block":
                time.sleep(60)
            case "wait":
                (HERE / "waiting").touch()
                await trio.sleep(60)
            case "flow":
                await self.env.FLOW.create(id="one")
            case "status":
                status = await (await self.env.FLOW.get("one")).status()
                return Response.json([status["status"], status.get("output")])
        return Response(str(os.getpid()))
"""

CALLER = """
from workers import Response, WorkerEntrypoint


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        counter = self.env.COUNTER.getByName("one")
        try:
            return Response(str(await getattr(counter, request.url.rpartition("/")[2])()))
        except Exception as error:
            return Response.json([str(error), error.retryable, error.durableObjectReset])
"""


def write_worker(folder, script, **config):
    folder.mkdir()
    (folder / "entry.py").write_text(script)
    written = {"name": folder.name, "main": "entry.py", "compatibility_date": "2026-05-01", **config}
    (folder / "wrangler.json").write_text(json.dumps(written))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("workers")
    settings = {"instances": 1, "blocked_ms": 60_000}
    bindings = {
        "durable_objects": {"bindings": [{"name": "COUNTER", "class_name": "Counter"}]},
        "migrations": [{"tag": "v1", "new_sqlite_classes": ["Counter"]}],
        "workflows": [{"name": "flow", "binding": "FLOW", "class_name": "Flow"}],
    }
    for http1 in ("llhttp", "hypercorn"):
        write_worker(root / http1, SCRIPT, limits={"cpu_ms": CPU_MS}, edge={**settings, "http1": http1})
    write_worker(root / "blocks", SCRIPT, edge={**settings, "blocked_ms": 2500})
    write_worker(root / "reported", SCRIPT, edge=settings)
    write_worker(root / "state", SCRIPT, limits={"cpu_ms": CPU_MS}, edge=settings, **bindings)
    there = {"bindings": [{"name": "COUNTER", "class_name": "Counter", "script_name": "state"}]}
    write_worker(root / "caller", CALLER, durable_objects=there)
    data = tmp_path_factory.mktemp("data")
    with EdgeProcess("run", root, "--port", 0, "--data", data, "--grace-s", 1) as edge:
        edge.root = root
        yield edge.wait_ready()
        assert edge.interrupt() == 0


class Client:
    """One connection that is kept."""

    def __init__(self, edge, worker):
        self._host = worker
        self._socket = socket.create_connection(("127.0.0.1", edge.port))
        self._socket.settimeout(PATIENCE_S)
        self._received = b""

    def ask(self, path):
        self._socket.sendall(f"GET /{path} HTTP/1.1\r\nhost: {self._host}.localhost\r\n\r\n".encode())

    def answer(self):
        """Status, headers and body."""
        while b"\r\n\r\n" not in self._received:
            self._receive()
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        length = int(re.search(rb"content-length: (\d+)", head)[1])
        while len(self._received) < length:
            self._receive()
        body, self._received = self._received[:length].decode(), self._received[length:]
        first, *headers = head.decode().split("\r\n")
        return int(first.split()[1]), dict(line.split(": ") for line in headers), body

    def _receive(self):
        piece = self._socket.recv(65536)
        assert piece, f"the connection ended after {self._received}"
        self._received += piece

    def get(self, path):
        self.ask(path)
        status, _, body = self.answer()
        assert status == 200, body
        return body

    def close(self):
        self._socket.close()


@pytest.fixture
def connect(server):
    clients = []

    def connect(worker):
        clients.append(Client(server, worker))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


def wait_for_file(server, worker, name):
    file = server.root / worker / name
    eventually(file.exists)
    file.unlink()


@pytest.mark.needs("pidfd_getfd")
@pytest.mark.parametrize("worker", ["llhttp", "hypercorn"])
def test_request_that_runs_away_gets_cloudflares_page_and_the_others_a_clear_answer(server, connect, worker):
    before = connect(worker).get("pid")
    waiting, runs_away = connect(worker), connect(worker)
    waiting.ask("wait")
    wait_for_file(server, worker, "waiting")
    runs_away.ask("run_away")
    status, headers, body = runs_away.answer()
    assert (status, headers["connection"], body) == (500, "close", "error code: 1102")
    status, headers, body = waiting.answer()
    assert (status, headers["connection"], headers["retry-after"]) == (503, "close", "1")
    assert body.startswith(
        "The worker was restarted while it handled this request, because another one used more CPU time than it may. "
    )
    assert connect(worker).get("pid") != before


@pytest.mark.needs("pidfd_getfd")
def test_kept_connections_are_served_by_the_next_isolate(server, connect):
    asked, silent = connect("llhttp"), connect("llhttp")
    before = asked.get("pid")
    assert silent.get("pid") == before
    (server.root / "llhttp" / "running").unlink(missing_ok=True)
    connect("llhttp").ask("run_away")
    wait_for_file(server, "llhttp", "running")
    late = connect("llhttp")
    for client in (asked, late):
        client.ask("pid")
    after = {client.answer()[2] for client in (asked, late)}
    assert after == {silent.get("pid")} != {before}


@pytest.mark.needs("pidfd_getfd")
def test_blocking_request_is_told_from_those_that_it_holds_up(server, connect):
    waiting, blocks = connect("blocks"), connect("blocks")
    waiting.ask("wait")
    wait_for_file(server, "blocks", "waiting")
    blocks.ask("block")
    assert blocks.answer()[::2] == (500, "error code: 1102")
    status, _, body = waiting.answer()
    assert status == 503
    assert body.startswith("The worker was restarted while it handled this request. ")


def test_blocked_loop_is_reported_before_it_is_killed_with_the_line_that_blocks(server, connect):
    connect("reported").ask("block")
    server.wait_for(
        r"reported: the event loop of isolate \d+ has been blocked for .* it is here, the innermost call last:"
    )
    line = SCRIPT.split("\n").index("                time.sleep(60)") + 1
    server.wait_for(rf'entry.py", line {line}, in fetch')
    assert not any("ended: killed" in each and "reported" in each for each in server.lines)


def test_calls_to_objects_of_a_killed_isolate_fail_as_retryable_and_the_next_ones_succeed(server, connect):
    client = connect("caller")
    before = client.get("pid")
    client.ask("wait")
    wait_for_file(server, "state", "called")
    connect("state").ask("run_away")
    assert json.loads(client.answer()[2]) == ["Network connection lost.", True, False]
    assert client.get("pid") != before


def test_step_of_a_killed_isolate_runs_again_in_the_next_one(server, connect):
    before = connect("state").get("flow")
    attempts = server.root / "state" / "attempts"
    eventually(lambda: attempts.exists() and attempts.read_text().endswith("\n"))
    (server.root / "state" / "go").touch()
    connect("state").ask("run_away")
    status, output = eventually(lambda: (now := json.loads(connect("state").get("status")))[0] == "complete" and now)
    assert status == "complete"
    assert attempts.read_text().split() == [before, str(output)]
