"""Cron triggers in a real server: fired by hand, and by time also after downtime."""

import json
import subprocess

import pytest
from edge_process import EDGE, EdgeProcess, eventually

SCRIPT = """
from workers import Response, WorkerEntrypoint

class Default(WorkerEntrypoint):
    async def scheduled(self, controller, env, ctx):
        fired = await env.KV.get("fired", "json") or []
        await env.KV.put("fired", __import__("json").dumps([*fired, [controller.cron, controller.scheduledTime]]))

    async def fetch(self, request):
        return Response.json(await self.env.KV.get("fired", "json") or [])
"""


@pytest.fixture
def worker(tmp_path):
    (tmp_path / "entry.py").write_text(SCRIPT)
    config = {
        "name": "clock",
        "main": "entry.py",
        "compatibility_date": "2026-05-01",
        "kv_namespaces": [{"binding": "KV", "id": "clock"}],
        "triggers": {"crons": ["0 0 1 1 *"]},
    }
    (tmp_path / "wrangler.json").write_text(json.dumps(config))
    return tmp_path


def edge(*arguments):
    return subprocess.run([*EDGE, *map(str, arguments)], capture_output=True, text=True, check=False)


def test_trigger_is_fired_by_hand_and_an_unknown_one_refused(worker):
    data = worker / "data"
    with EdgeProcess("dev", worker, "--port", 0, "--data", data).wait_ready() as server, server.client() as client:
        fired = edge("workers", "run-scheduled", "clock", "0 0 1 1 *", "--time", 1_800_000_000_000, "--data", data)
        assert fired.returncode == 0, fired.stderr
        assert eventually(lambda: client.get("/").json()) == [["0 0 1 1 *", 1_800_000_000_000]]
        unknown = edge("workers", "run-scheduled", "clock", "* * * * *", "--data", data)
        assert unknown.returncode == 1
        assert "allowed: '0 0 1 1 *'" in unknown.stderr
        listed = json.loads(edge("workers", "list", "--data", data, "--json").stdout)
        assert [(row["name"], row["state"]) for row in listed] == [("clock", "serving")]
    gone = edge("workers", "list", "--data", data)
    assert gone.returncode == 1
    assert "no server runs" in gone.stderr


def make_due(data):
    """Move the worker's timer into the past, as if the machine had been off when it became due."""
    import trio

    from edge_runtime.actors.timers import pending, schedule
    from edge_runtime.store.api import Batch
    from edge_runtime.store.lmdb_store import open_store

    async def move():
        async with open_store(data / "store") as store:
            batch = Batch()
            with store.snapshot() as snapshot:
                (timer,) = pending(snapshot, "clock")
                schedule(batch, snapshot, timer.address, 1_700_000_000_000)
            await store.commit(batch)

    trio.run(move)


def test_trigger_that_became_due_while_down_fires_once_at_start(worker):
    data = worker / "data"
    with EdgeProcess("dev", worker, "--port", 0, "--data", data).wait_ready() as server:
        server.interrupt()
    make_due(data)
    with EdgeProcess("dev", worker, "--port", 0, "--data", data).wait_ready() as server, server.client() as client:
        assert eventually(lambda: client.get("/").json()) == [["0 0 1 1 *", 1_700_000_000_000]]
        server.wait_for(r"scheduled Default.scheduled")
        assert len(client.get("/").json()) == 1
