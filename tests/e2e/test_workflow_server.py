"""Commands on instances of a real server, while it runs and while it does not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from edge_process import EdgeProcess, edge_here, eventually

SCRIPT = """
from pathlib import Path
from workers import Response, WorkerEntrypoint, WorkflowEntrypoint

LOG = Path(__file__).with_name("undone.log")


class Order(WorkflowEntrypoint):
    async def run(self, event, step):
        def undo():
            with LOG.open("a") as log:
                log.write("undone\\n")

        await step.do("reserve", lambda: "reserved", rollback=undo)
        paid = await step.wait_for_event("paid", "paid")
        return paid.payload


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        instance = await self.env.ORDERS.create()
        return Response(instance.id)
"""
CONFIG = """
name = "shop"
main = "entry.py"
compatibility_date = "2026-03-01"
compatibility_flags = ["python_workers"]
workflows = [{ name = "order", binding = "ORDERS", class_name = "Order" }]
"""


class Shop:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "wrangler.toml").write_text(CONFIG)
        (folder / "entry.py").write_text(SCRIPT)
        self.edge: EdgeProcess | None = None

    def start(self) -> EdgeProcess:
        self.edge = EdgeProcess("dev", self.folder, "--port", 0, "--no-reload")
        return self.edge.wait_ready()

    def kill(self) -> None:
        if self.edge is not None:
            self.edge.kill()
            self.edge = None

    def say(self, *arguments: str) -> str:
        return edge_here("workflows", *arguments, "--config", self.folder)

    def status(self) -> str:
        shown: dict[str, Any] = json.loads(self.say("instances", "describe", "order", "--json"))
        return str(shown["status"])

    def reaches(self, status: str) -> bool:
        eventually(lambda: self.status() == status)
        return True


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path)
    yield shop
    shop.kill()


def test_commands_reach_a_running_server_at_once_and_one_that_does_not_run_at_its_start(shop: Shop) -> None:
    with shop.start().client() as client:
        client.get("/")
    shop.reaches("waiting")
    shop.say("instances", "pause", "order", "latest")
    shop.reaches("paused")
    shop.kill()
    shop.say("instances", "resume", "order", "latest")
    assert shop.status() == "paused"
    shop.start()
    shop.reaches("waiting")
    shop.say("instances", "terminate", "order", "latest", "--rollback")
    shop.reaches("terminated")
    assert (shop.folder / "undone.log").read_text() == "undone\n"
    shop.say("instances", "restart", "order", "latest")
    shop.reaches("waiting")
    shop.say("instances", "send-event", "order", "latest", "--type", "paid", "--payload", "5")
    shop.reaches("complete")
