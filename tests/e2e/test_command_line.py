"""The `edge` command as a person uses it."""

import json
import os
import re
import socket
import subprocess
from textwrap import dedent

import httpx2
import pytest
from click.testing import CliRunner
from edge_process import APPS, EDGE, PATIENCE_S, EdgeProcess, edge_here, eventually, replace_text

from edge_runtime.cli import main

COUNTER = dedent("""
    from workers import DurableObject, Response, WorkerEntrypoint, WorkflowEntrypoint

    GREETING = "first"


    class Counter(DurableObject):
        async def add(self):
            count = (await self.ctx.storage.get("count") or 0) + 1
            await self.ctx.storage.put("count", count)
            return count


    class Flow(WorkflowEntrypoint):
        async def run(self, event, step):
            first = await step.do("first", lambda: event.payload.get("n", 0) + 1)
            approval = await step.wait_for_event("approval", "approval")
            return {"first": first, "by": approval["payload"]["by"]}


    class Default(WorkerEntrypoint):
        async def fetch(self, request):
            if request.url.endswith("/kv"):
                return Response(await self.env.NOTES.get("shared") or "nothing")
            count = await self.env.COUNTER.getByName("it").add()
            return Response(f"{GREETING} {count}")
    """)
CONFIG = {
    "name": "tally",
    "main": "entry.py",
    "compatibility_date": "2026-05-01",
    "durable_objects": {"bindings": [{"name": "COUNTER", "class_name": "Counter"}]},
    "migrations": [{"tag": "v1", "new_sqlite_classes": ["Counter"]}],
    "kv_namespaces": [{"binding": "NOTES", "id": "notes"}],
    "workflows": [{"name": "flow", "binding": "FLOW", "class_name": "Flow"}],
}


def edge(*arguments, cwd=None, code=0):
    """Run a command to its end; what it printed, its errors when it is to fail."""
    command = [*EDGE, *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=2 * PATIENCE_S, cwd=cwd, check=False)
    assert ended.returncode == code, ended.stderr + ended.stdout
    assert "Traceback" not in ended.stderr
    return ended.stderr if code else ended.stdout


@pytest.fixture
def worker(tmp_path):
    folder = tmp_path / "worker"
    folder.mkdir()
    (folder / "entry.py").write_text(COUNTER)
    (folder / "wrangler.json").write_text(json.dumps(CONFIG))
    return folder


def serving(folder, *arguments):
    return EdgeProcess("dev", folder, "--port", 0, *arguments)


def test_second_start_on_a_data_directory_is_refused_with_the_holders_pid(worker):
    with serving(worker) as first:
        first.wait_ready()
        error = edge("dev", worker, "--port", 0, code=1)
        assert error == (
            f"edge: cannot start on data directory {worker / '.edge'}: the running process {first.process.pid} "
            "holds it; stop that process or choose another directory with --data\n"
        )
        with first.client() as client:
            assert client.get("/").text == "first 1"


def test_port_in_use_is_named(worker):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        error = edge("dev", worker, "--port", port, "--ip", "127.0.0.1", code=1)
    assert error == (
        f"edge: cannot listen on 127.0.0.1:{port}: the port is taken by another program; "
        "choose another one with --port\n"
    )


def test_wrong_arguments_say_what_is_allowed(tmp_path):
    error = edge("dev", tmp_path, code=1)
    assert error == (
        f"edge: {tmp_path}: found no configuration; "
        'allowed: a folder with "wrangler.json", "wrangler.jsonc", "wrangler.toml"\n'
    )
    assert "No such command 'frobnicate'" in edge("frobnicate", code=2)
    assert "no worker in" in edge("run", tmp_path, code=1)
    assert "no data directory at" in edge("usage", "--data", tmp_path / "none", code=1)
    assert "no server runs on data directory" in edge("deploy", APPS / "hello", "--data", tmp_path / "none", code=1)


def test_every_command_explains_itself():
    assert edge("--help").startswith("Usage: ")
    paths = [()]
    for path in paths:
        result = CliRunner().invoke(main.edge, [*path, "--help"])
        assert result.exit_code == 0
        assert result.output.startswith("Usage: ")
        listed = result.output.partition("\nCommands:\n")[2]
        paths += [(*path, name) for name in re.findall(r"^  ([a-z][a-z-]*)", listed, re.MULTILINE)]
    assert {("dev",), ("kv", "key", "put"), ("workflows", "instances", "send-event")} <= set(paths)


def test_init_gives_a_worker_that_runs(tmp_path):
    folder = tmp_path / "My Worker"
    edge("init", folder)
    assert "it has wrangler.jsonc, src/entry.py, .gitignore already" in edge("init", folder, code=1)
    with serving(folder) as server, server.wait_ready().client() as client:
        assert client.get("/").json() == {"visits": 1}
        assert server.interrupt() == 0


def test_reload_changes_the_answer_and_keeps_state_through_a_mistake(worker):
    script = worker / "entry.py"
    with serving(worker) as server:
        url = server.wait_ready().url

        def get():
            # On a connection of its own: one that is kept may be closed by a reload just as it is used.
            return httpx2.get(url, timeout=PATIENCE_S, trust_env=False, verify=False)

        assert [get().text for _ in range(2)] == ["first 1", "first 2"]
        replace_text(script, COUNTER.replace('"first"', '"second"'))
        count = eventually(lambda: (text := get().text).startswith("second") and int(text.split()[1]))
        assert count >= 3
        replace_text(script, COUNTER + "def broken(:\n")
        server.wait_for("cannot load worker tally from entry.py: invalid syntax")
        answer = eventually(lambda: (found := get()).status_code == 500 and found)
        assert "def broken(:" in answer.text
        replace_text(script, COUNTER.replace('"first"', '"third"'))
        eventually(lambda: (text := get().text).startswith("third") and int(text.split()[1]) > count)
        assert server.interrupt() == 0


def test_usage_and_keys_while_the_server_runs_and_after(worker):
    key = ("kv", "key")
    where = ("--binding", "NOTES")
    with serving(worker) as server, server.wait_ready().client() as client:
        client.get("/")
        edge(*key, "put", "shared", "from outside", *where, cwd=worker)
        assert client.get("/kv").text == "from outside"
        assert edge(*key, "get", "shared", *where, "--text", cwd=worker).strip() == "from outside"
        fetched = eventually(lambda: (row := usage(worker).get("Default.fetch", {})).get("events") == 2 and row)
        assert fetched["cpu_us"] > 0
        assert server.interrupt() == 0
    assert usage(worker)["Default.fetch"]["events"] == 2
    assert [row["name"] for row in json.loads(edge(*key, "list", *where, cwd=worker))] == ["shared"]
    edge(*key, "delete", "shared", *where, cwd=worker)
    assert json.loads(edge(*key, "list", *where, cwd=worker)) == []
    edge(*key, "get", "shared", *where, cwd=worker, code=1)
    checks = json.loads(edge("doctor", "--data", worker / ".edge", "--json"))
    assert {row["verdict"] for row in checks} == {"ok"}


def usage(worker):
    rows = json.loads(edge("usage", "--data", worker / ".edge", "--json"))
    return {row["handler"]: row for row in rows}


def test_workflows_are_started_and_told_from_outside(worker):
    def instances(*arguments):
        return json.loads(edge_here("workflows", "instances", *arguments, "--config", worker, "--json"))

    def waiting():
        return [row["status"] for row in instances("list", "flow")] in (["waiting"], ["running"])

    with serving(worker) as server:
        server.wait_ready()
        edge("workflows", "trigger", "flow", '{"n": 1}', "--id", "one", cwd=worker)
        eventually(waiting)
        edge(
            "workflows",
            "instances",
            "send-event",
            "flow",
            "one",
            "--type",
            "approval",
            "--payload",
            '{"by": "me"}',
            cwd=worker,
        )
        described = eventually(
            lambda: (found := instances("describe", "flow", "one"))["status"] == "complete" and found
        )
        assert described["output"] == {"first": 2, "by": "me"}
        assert server.interrupt() == 0
    edge("workflows", "trigger", "flow", "--id", "two", cwd=worker)
    edge(
        "workflows",
        "instances",
        "send-event",
        "flow",
        "two",
        "--type",
        "approval",
        "--payload",
        '{"by": "you"}',
        cwd=worker,
    )
    assert "already exists" in edge("workflows", "trigger", "flow", "--id", "two", cwd=worker, code=1)
    assert "Workflow 'nope' not found" in edge("workflows", "trigger", "nope", cwd=worker, code=1)
    with serving(worker) as server:
        server.wait_ready()
        eventually(lambda: instances("describe", "flow", "two")["status"] == "complete")


def test_deploy_to_a_running_server(worker, tmp_path):
    data = tmp_path / "data"

    def answer(server):
        # On a connection of its own: one that is kept ends with the version that serves it.
        with server.client() as client:
            return client.get("/").text

    with EdgeProcess("run", "--port", 0, "--data", data) as server:
        server.wait_ready()
        assert re.match(r"deployed tally, version \w+", edge("deploy", worker, "--data", data))
        assert answer(server) == "first 1"
        (worker / "entry.py").write_text("def broken(:\n")
        error = edge("deploy", worker, "--data", data, code=1)
        assert "cannot load worker tally from entry.py: invalid syntax" in error
        assert answer(server) == "first 2"
        (worker / "entry.py").write_text(COUNTER.replace('"first"', '"second"'))
        edge("deploy", worker, "--data", data)
        assert answer(server) == "second 3"
        rename = {"tag": "v2", "renamed_classes": [{"from": "Counter", "to": "Tally"}]}
        config = {**CONFIG, "durable_objects": {"bindings": [{"name": "COUNTER", "class_name": "Tally"}]}}
        (worker / "entry.py").write_text(COUNTER.replace("class Counter", "class Tally"))
        (worker / "wrangler.json").write_text(json.dumps({**config, "migrations": [*CONFIG["migrations"], rename]}))
        edge("deploy", worker, "--data", data)
        assert answer(server) == "first 4"
        (worker / "wrangler.json").write_text(
            json.dumps({**config, "migrations": [{"tag": "v2", "new_sqlite_classes": ["Tally"]}]})
        )
        error = edge("deploy", worker, "--data", data, code=1)
        assert "the migrations v1, v2 were applied to its Durable Objects, and the configuration has v2" in error
        assert server.interrupt() == 0
    with EdgeProcess("run", "--port", 0, "--data", data) as server:
        server.wait_ready()
        assert answer(server) == "first 5"
        assert server.interrupt() == 0
    assert "it" in edge("objects", "list", "Tally", "--data", data, cwd=tmp_path)


def test_interrupt_ends_streams_and_idle_connections_and_leaves_no_process(tmp_path):
    with EdgeProcess(
        "dev", "--config", APPS / "llm_offload" / "wrangler.jsonc", "--port", 0, "--data", tmp_path / "data"
    ) as server:
        with server.wait_ready().client() as client, client.stream("GET", "/sessions/s/events") as events:
            assert next(line for line in events.iter_lines() if line) == ": listening"
            with server.client() as idle:
                assert idle.get("/").status_code == 200
                family = server.family()
                assert server.interrupt() == 0
                with pytest.raises(httpx2.HTTPError):
                    idle.get("/")
        eventually(lambda: not [pid for pid in family if os.path.exists(f"/proc/{pid}")])
