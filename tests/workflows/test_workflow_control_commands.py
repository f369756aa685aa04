"""`edge workflows instances pause | resume | ...` between runs of the worker, which takes the commands when it runs."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from click.testing import CliRunner, Result
from seam_fakes import CountingRandomness
from workflow_world import World, open_world

from bindings.workflows.cli import workflows
from edge_runtime.errors import UsageError
from edge_runtime.seams import SystemClock
from edge_runtime.store.lmdb_store import open_store
from edge_runtime.workers.entrypoints import WorkflowEntrypoint

CONFIG = """
name = "shop"
main = "entry.py"
compatibility_date = "2026-03-01"
workflows = [{ name = "order-flow", binding = "ORDERS", class_name = "OrderFlow" }]
"""


class OrderFlow(WorkflowEntrypoint):
    async def run(self, event: Any, step: Any) -> Any:
        async def charge(ctx: Any) -> str:
            if ctx.attempt == 1:
                raise OSError("busy")
            return "charged"

        async def secret() -> str:
            return "hidden"

        async def undo() -> None:
            return

        charged = await step.do("charge", {"retries": {"limit": 1, "delay": 0}}, charge, rollback=undo)
        await step.do("secret", {"sensitive": "output"}, secret)
        paid = await step.wait_for_event("paid", "paid", timeout="1 hour")
        return [charged, paid.payload]


class Shop:
    """The worker's folder, its data directory, and a terminal there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "wrangler.toml").write_text(CONFIG)
        (folder / "entry.py").write_text("")

    def run(self, *arguments: str) -> Result:
        context = SimpleNamespace(poke=lambda data_dir, worker: None)
        return CliRunner().invoke(workflows, [*arguments, "--config", str(self.folder)], obj=context)

    def say(self, *arguments: str) -> str:
        result = self.run(*arguments)
        assert result.exit_code == 0, result.exception
        return result.output

    def json(self, *arguments: str) -> Any:
        return json.loads(self.say(*arguments, "--json"))

    def status(self, id: str = "one") -> str:
        return str(self.json("instances", "describe", "order-flow", id)["status"])

    def serve(self, work: Callable[[World], Awaitable[None]] | None = None) -> None:
        """Run the worker until nothing happens any more, or as long as `work` takes."""

        async def settle(world: World) -> None:
            await trio.sleep(1)

        async def main() -> None:
            async with open_store(self.folder / ".edge" / "store") as store:
                clock: Any = SystemClock()
                async with open_world(OrderFlow, store, clock=clock, random=UniqueRandomness()) as world:  # type: ignore[arg-type]
                    await (work or settle)(world)
                    await world.host.release()

        trio.run(main)


class UniqueRandomness(CountingRandomness):
    """Ids that no other process of the test has."""

    def ordered_id(self) -> str:
        return f"{SystemClock().now_ms():014d}-{self.uuid()}"


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    shop = Shop(tmp_path)
    shop.say("trigger", "order-flow", "--id", "one")
    shop.serve()
    assert shop.status() == "waiting"
    return shop


def test_pause_and_resume_are_shown_as_pending_until_the_worker_runs(shop: Shop) -> None:
    assert shop.say("instances", "pause", "order-flow", "latest") == (
        'The instance "one" from order-flow was paused successfully\n'
    )
    assert shop.json("instances", "describe", "order-flow")["pending"] == ["pause"]
    assert "taken once the worker runs" in shop.say("instances", "describe", "order-flow", "one")
    shop.serve()
    assert shop.status() == "paused"
    shop.say("instances", "send-event", "order-flow", "one", "--type", "paid", "--payload", "7")
    shop.serve()
    assert shop.status() == "paused"
    assert "resumed successfully" in shop.say("instances", "resume", "order-flow", "one")
    shop.serve()
    assert shop.json("instances", "describe", "order-flow", "one")["output"] == ["charged", 7]


def test_terminate_with_rollback_undoes_steps(shop: Shop) -> None:
    assert "terminated successfully" in shop.say("instances", "terminate", "order-flow", "one", "--rollback")
    shop.serve()
    shown = shop.json("instances", "describe", "order-flow", "one")
    assert shown["status"] == "terminated"
    assert [(step["name"], step["type"], step["state"]) for step in shown["steps"]][-1] == (
        "rollback:/charge-1",
        "rollback",
        "succeeded",
    )
    refused = shop.run("instances", "terminate", "order-flow", "one")
    assert "(instance.cannot_terminate) Cannot terminate instance since its on a finite state" in str(refused.exception)


@pytest.mark.parametrize(
    "arguments", [("--from-step-name", "secret"), ("--from", "secret-1"), ("--from", "secret"), ()]
)
def test_restart_keeps_what_it_is_told_to(shop: Shop, arguments: tuple[str, ...]) -> None:
    before = shop.json("instances", "describe", "order-flow", "one")["steps"]
    shop.say("instances", "restart", "order-flow", "one", *arguments)
    shop.serve()
    shown = shop.json("instances", "describe", "order-flow", "one")
    assert shown["status"] == "waiting"
    assert (shown["steps"][0]["start"] == before[0]["start"]) is bool(arguments)
    assert shown["steps"][1]["start"] > before[1]["start"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--from-step-count", "2"), "--from-step-name is required"),
        (("--from-step-name", "x", "--from-step-count", "0"), "must be a positive integer"),
        (("--from-step-name", "x"), '(instance.cannot_restart) Step "x" not found in execution history'),
        (("--from", "x-1"), '(instance.cannot_restart) Step "x-1" not found in execution history'),
    ],
)
def test_wrong_restart_is_refused(shop: Shop, arguments: tuple[str, ...], text: str) -> None:
    assert text in str(shop.run("instances", "restart", "order-flow", "one", *arguments).exception)


def test_delete_takes_ids_and_a_file_and_tells_of_each(shop: Shop, tmp_path: Path) -> None:
    for id in ("two", "three"):
        shop.say("trigger", "order-flow", "--id", id)
    (tmp_path / "ids.json").write_text('["two", "nobody"]')
    result = shop.run("instances", "delete", "order-flow", "one", "--filename", str(tmp_path / "ids.json"))
    assert result.output == 'Deleted workflow instances from "order-flow": "one", "two"\n'
    assert isinstance(result.exception, UsageError)
    assert "Failed to delete 1 workflow instance(s):\n  - nobody: (instance.not_found)" in str(result.exception)
    shop.serve()
    assert [row["id"] for row in shop.json("instances", "list", "order-flow")] == ["three"]
    assert "at least one" in str(shop.run("instances", "delete", "order-flow").exception)
    assert "instances removed successfully: 1" in shop.say("delete", "order-flow")
    shop.serve()
    assert shop.json("instances", "list", "order-flow", "--worker", "shop") == []


def test_terminate_all_ends_those_of_a_status(shop: Shop) -> None:
    shop.say("trigger", "order-flow", "--id", "later", "--delay", "1 hour")
    assert shop.say("instances", "terminate-all", "order-flow", "--status", "waiting").startswith("1 instances")
    shop.serve()
    assert (shop.status(), shop.status("later")) == ("terminated", "queued")
    assert "Starts" in shop.say("instances", "describe", "order-flow", "later")


def test_export_gives_every_entry_with_the_events_of_cloudflares_log(shop: Shop) -> None:
    shop.say("instances", "send-event", "order-flow", "one", "--type", "paid", "--payload", '{"n": 1}')
    shop.serve()
    lines = [json.loads(line) for line in shop.say("instances", "export", "order-flow", "one").splitlines()]
    assert [event for line in lines for event in line["events"]] == [
        *("WORKFLOW_QUEUED", "WORKFLOW_START"),
        *("STEP_START", "ATTEMPT_START", "ATTEMPT_FAILURE", "ATTEMPT_START", "ATTEMPT_SUCCESS", "STEP_SUCCESS"),
        *("STEP_START", "ATTEMPT_START", "ATTEMPT_SUCCESS", "STEP_SUCCESS"),
        *("WAIT_START", "WAIT_COMPLETE", "WORKFLOW_SUCCESS"),
    ]
    assert [line["id"] for line in lines] == list(range(1, len(lines) + 1))
    assert "hidden" not in json.dumps(lines)
    assert lines[-1]["output"] == ["charged", {"n": 1}]
    assert "entry" in json.loads(shop.say("instances", "export", "order-flow", "one", "--raw").splitlines()[0])


def test_describe_shows_attempts_cpu_what_is_awaited_and_a_timeline(shop: Shop) -> None:
    text = shop.say("instances", "describe", "order-flow", "one")
    for expected in ("Waiting For:", "paid-1 (waitForEvent paid) until", "CPU Time:", "Timeline of", "OSError: busy"):
        assert expected in text
    assert "hidden" not in text
    shown = shop.json("instances", "describe", "order-flow", "one")
    assert shown["waitingFor"][0]["eventType"] == "paid"
    assert shown["cpuUs"] > 0


def test_long_values_are_cut_where_they_are_shown_to_people(shop: Shop) -> None:
    shop.say("trigger", "order-flow", json.dumps("x" * 50), "--id", "two")
    shop.say("instances", "send-event", "order-flow", "two", "--type", "paid", "--payload", json.dumps("y" * 50))
    shop.serve()
    text = shop.say("instances", "describe", "order-flow", "two", "--truncate-output-limit", "20")
    assert f'Params:               "{"x" * 19}[...output truncated]' in text
    assert '"charged", "yyyyyyy[...output truncated]' in text
    assert "y" * 20 not in text
    assert "charged" not in shop.say("instances", "describe", "order-flow", "one", "--no-step-output")


def test_list_is_filtered_by_the_time_of_creation(shop: Shop) -> None:
    created = shop.json("instances", "list", "order-flow")[0]["created_on"]
    assert len(shop.json("instances", "list", "order-flow", "--created-after", created)) == 1
    assert shop.json("instances", "list", "order-flow", "--created-before", created) == []
    assert len(shop.json("instances", "list", "order-flow", "--date-start", created, "--date-end", created)) == 1
    assert shop.json("instances", "list", "order-flow", "--date-end", "2020-01-01") == []
    assert "ISO 8601" in shop.run("instances", "list", "order-flow", "--created-after", "today").output
