"""Workflow instances that stay with the version of the script that they began with, in real servers."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest
from edge_process import EDGE, EdgeProcess, eventually, replace_text

SCRIPT = """
from urllib.parse import parse_qs, urlparse
from workers import DurableObject, Response, WorkerEntrypoint, WorkflowEntrypoint

VERSION = "v1"

class Counter(DurableObject):
    async def count(self, who):
        seen = await self.ctx.storage.get("seen") or []
        await self.ctx.storage.put("seen", [*seen, [who, VERSION]])
        return len(seen) + 1

    async def seen(self):
        return await self.ctx.storage.get("seen") or []

class Flow(WorkflowEntrypoint):
    async def run(self, event, step):
        async def work():
            await self.env.COUNTER.getByName("all").count(VERSION)
            return VERSION

        first = await step.do(f"first of {VERSION}", work)
        await step.wait_for_event("go", "go")
        second = await step.txn(f"second of {VERSION}", work)
        return [first, second, VERSION]

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        url = urlparse(request.url)
        action, _, id = url.path.strip("/").partition("/")
        if action == "create":
            await self.env.FLOW.create(id=id)
        elif action == "go":
            await (await self.env.FLOW.get(id)).send_event({"type": "go", "payload": None})
        elif action == "delete":
            await (await self.env.FLOW.get(id)).delete()
        elif action == "restart":
            await (await self.env.FLOW.get(id)).restart()
        elif action == "seen":
            return Response.json(await self.env.COUNTER.getByName("all").seen())
        elif action == "status":
            return Response.json(await (await self.env.FLOW.get(id)).status())
        return Response(VERSION)
"""


def write(folder, version, setting="pinned"):
    folder.mkdir(exist_ok=True)
    replace_text(folder / "entry.py", SCRIPT.replace('"v1"', f'"{version}"'))
    config = {
        "name": "shop",
        "main": "entry.py",
        "compatibility_date": "2026-05-01",
        "durable_objects": {"bindings": [{"name": "COUNTER", "class_name": "Counter"}]},
        "migrations": [{"tag": "v1", "new_sqlite_classes": ["Counter"]}],
        "workflows": [{"binding": "FLOW", "name": "flow", "class_name": "Flow", "version": setting}],
    }
    replace_text(folder / "wrangler.json", json.dumps(config))
    return folder


def edge_command(*arguments):
    done = subprocess.run([*EDGE, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Shop:
    def __init__(self, edge):
        self._edge = edge

    def get(self, path):
        # On a connection of its own: one that is kept may be closed by a deploy just as it is used.
        with self._edge.client() as client:
            answer = client.get(path)
        assert answer.status_code == 200, answer.text
        return answer

    def has(self, id, status):
        def look():
            found = self.get(f"/status/{id}").json()
            return found["status"] == status and found

        try:
            return eventually(look, 60)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.get(f'/status/{id}').text}\n{self._edge.output}") from None


def kept(data):
    return {path.name for path in (data / "deployments/shop").iterdir() if path.is_dir()}


@pytest.mark.slow
def test_pinned_instances_stay_with_their_version_across_deploys_and_starts(tmp_path):
    data, folder = tmp_path / "data", tmp_path / "shop"

    def deploy(version, setting="pinned"):
        edge_command("deploy", write(folder, version, setting), "--data", data)

    start = ("run", "--port", 0, "--data", data)
    with EdgeProcess(*start) as edge:
        edge.wait_ready()
        deploy("v1")
        (first,) = kept(data)
        shop = Shop(edge)
        for id in ("a", "b"):
            shop.get(f"/create/{id}")
            shop.has(id, "waiting")
        deploy("v2")
        assert shop.get("/").text == "v2"
        edge_command("workflows", "trigger", "flow", "--id", "c", "--data", data, "--worker", "shop")
        shop.has("c", "waiting")
        shop.get("/go/a")
        assert shop.has("a", "complete")["output"] == ["v1", "v1", "v1"]
    for number in range(6):
        # As many later versions would have it.
        (data / "deployments/shop" / f"later-{number}").mkdir()
    with EdgeProcess(*start) as edge:
        shop = Shop(edge.wait_ready())
        shop.get("/go/c")
        edge_command("workflows", "instances", "send-event", "flow", "b", "--type", "go", "--data", data)
        assert shop.has("b", "complete")["output"] == ["v1", "v1", "v1"]
        assert shop.has("c", "complete")["output"] == ["v2", "v2", "v2"]
        # The objects are those of the newest version, and were called once by each step.
        assert sorted(who for who, _ in shop.get("/seen").json()) == ["v1"] * 4 + ["v2"] * 2
        listed = json.loads(edge_command("workflows", "instances", "list", "flow", "--data", data, "--json"))
        assert {row["id"]: row["pinned"] for row in listed} == {"a": True, "b": True, "c": True}
        # From the top there is nothing that only the old version fits; from a step there is.
        shop.get("/restart/a")
        edge_command("workflows", "instances", "restart", "flow", "b", "--from", "second of v1", "--data", data)
        assert shop.has("b", "complete")["output"] == ["v1", "v1", "v1"]
        shop.has("a", "waiting")
        shop.get("/go/a")
        assert shop.has("a", "complete")["output"] == ["v2", "v2", "v2"]
        shop.get("/delete/b")
        assert first in kept(data)
        deploy("v3", "newest")
        assert first not in kept(data)
        assert shop.get("/status/c").json()["status"] == "complete"


@pytest.mark.slow
def test_pinned_instance_stays_with_its_version_across_a_reload_and_is_told_of_when_that_is_gone(tmp_path):
    data, folder = tmp_path / "data", write(tmp_path / "shop", "v1")
    with EdgeProcess("dev", folder, "--port", 0, "--data", data) as edge:
        shop = Shop(edge.wait_ready())
        shop.get("/create/a")
        shop.has("a", "waiting")
        write(folder, "v2")
        eventually(lambda: shop.get("/").text == "v2")
        (first, second) = kept(data)
        shop.get("/create/b")
        shop.has("b", "waiting")
        for id in ("a", "b"):
            shop.get(f"/go/{id}")
        assert shop.has("a", "complete")["output"] == ["v1", "v1", "v1"]
        assert shop.has("b", "complete")["output"] == ["v2", "v2", "v2"]
        assert not re.search("failed|Traceback", edge.output), edge.output
    for version in (first, second):
        shutil.rmtree(data / "deployments/shop" / version)
    with EdgeProcess("dev", write(folder, "v3"), "--port", 0, "--data", data) as edge:
        edge.wait_ready()
        for version in (first, second):
            assert f"the files of version {version} are gone; what is pinned to it waits" in edge.output
