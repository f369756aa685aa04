"""`edge workflows` on a data directory, and the configuration section."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bindings.workflows import KIND
from bindings.workflows.cli import workflows
from bindings.workflows.kind import WorkflowSpec
from edge_runtime.config.model import Where
from edge_runtime.errors import ConfigError, UsageError

CONFIG = """
name = "shop"
main = "entry.py"
compatibility_date = "2026-03-01"
workflows = [{ name = "order-flow", binding = "ORDERS", class_name = "OrderFlow" }]
"""


class Terminal:
    """Runs commands in a worker's folder; `pokes` are the servers told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pokes: list[tuple[Path, str]] = []
        (folder / "wrangler.toml").write_text(CONFIG)
        (folder / "entry.py").write_text("")

    def run(self, *arguments: str) -> Result:
        context = SimpleNamespace(poke=lambda data_dir, worker: self.pokes.append((data_dir, worker)))
        return CliRunner().invoke(workflows, [*arguments, "--config", str(self.folder)], obj=context)

    def json(self, *arguments: str) -> Any:
        result = self.run(*arguments, "--json")
        assert result.exit_code == 0, result.exception
        return json.loads(result.output)


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path)


def test_triggered_instance_is_stored_shown_and_the_server_told(terminal: Terminal) -> None:
    result = terminal.run("trigger", "order-flow", '{"n": 1}', "--id", "first")
    assert result.output == 'Workflow instance "first" has been queued successfully\n'
    assert terminal.pokes == [(terminal.folder / ".edge", "shop")]
    second = terminal.json("trigger", "order-flow", "")["id"]
    assert [row["id"] for row in terminal.json("instances", "list", "order-flow")] == [second, "first"]
    assert terminal.json("instances", "list", "order-flow", "--status", "complete") == []
    shown = terminal.json("instances", "describe", "order-flow", "first")
    assert (shown["status"], shown["params"], shown["steps"]) == ("queued", {"n": 1}, [])
    assert terminal.json("instances", "describe", "order-flow")["id"] == second
    assert terminal.json("list") == [
        {"name": "order-flow", "script_name": "shop", "class_name": "OrderFlow", "instances": {"queued": 2}}
    ]
    assert len(terminal.json("list", "--per-page", "1")) == 1
    assert terminal.json("list", "--page", "2", "--per-page", "1") == terminal.json("list", "--page", "2") == []
    assert "2 queued" in terminal.run("describe", "order-flow").output


def test_event_is_sent_to_an_instance_and_refused_for_an_unknown_one(terminal: Terminal) -> None:
    terminal.run("trigger", "order-flow", "--id", "first")
    sent = terminal.run("instances", "send-event", "order-flow", "latest", "--type", "paid", "--payload", "[1]")
    assert sent.output == (
        'The event with type "paid" and payload "[1]" was sent to the instance "first" from order-flow\n'
    )
    unknown = terminal.run("instances", "send-event", "order-flow", "nobody", "--type", "paid")
    assert isinstance(unknown.exception, UsageError)
    assert "instance.not_found" in str(unknown.exception)
    bad_type = terminal.run("instances", "send-event", "order-flow", "first", "--type", "a.b")
    assert "letters, digits, hyphens and underscores" in str(bad_type.exception)


def test_wrong_input_is_refused_before_anything_is_written(terminal: Terminal) -> None:
    assert "not JSON" in terminal.run("trigger", "order-flow", "{bad").output
    assert "invalid id" in str(terminal.run("trigger", "order-flow", "--id", "a b").exception)
    assert "known: order-flow" in str(terminal.run("trigger", "other").exception)
    terminal.run("trigger", "order-flow", "--id", "first")
    assert "instance.already_exists" in str(terminal.run("trigger", "order-flow", "--id", "first").exception)
    assert len(terminal.json("instances", "list", "order-flow")) == 1


def test_worker_option_reaches_a_workflow_that_no_configuration_names(terminal: Terminal) -> None:
    assert terminal.run("trigger", "other", "--worker", "depot", "--id", "x").exit_code == 0
    assert terminal.pokes[-1][1] == "depot"
    assert {row["script_name"] for row in terminal.json("list")} == {"shop", "depot"}


def parse(*items: dict[str, Any]) -> list[WorkflowSpec]:
    bindings = KIND.parse({"workflows": list(items)}, "shop", Where("wrangler.toml"))
    return [binding.spec for binding in bindings if isinstance(binding.spec, WorkflowSpec)]


ITEM = {"name": "order-flow", "binding": "ORDERS", "class_name": "OrderFlow"}


def test_section_gives_one_binding_a_workflow() -> None:
    assert parse(ITEM, {**ITEM, "name": "b", "binding": "B", "script_name": "depot", "limits": {"steps": 5}}) == [
        WorkflowSpec("shop", "order-flow", "OrderFlow", 10_000),
        WorkflowSpec("depot", "b", "OrderFlow", 5),
    ]


@pytest.mark.parametrize(
    ("change", "at"),
    [
        ({"name": "-x"}, "workflows[0].name"),
        ({"name": "x" * 65}, "workflows[0].name"),
        ({"binding": "not a name"}, "workflows[0].binding"),
        ({"limits": {"steps": 0}}, "workflows[0].limits.steps"),
        ({"class_name": 3}, "workflows[0].class_name"),
        ({"version": "oldest"}, "workflows[0].version"),
        ({"version": "pinned", "script_name": "depot"}, "workflows[0].version"),
    ],
)
def test_wrong_section_is_refused_with_its_place(change: dict[str, Any], at: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse({**ITEM, **change})
    assert caught.value.at == at


def test_workflow_named_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="a second time"):
        parse(ITEM, {**ITEM, "binding": "AGAIN"})
