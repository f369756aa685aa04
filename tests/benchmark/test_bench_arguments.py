"""What `edge bench` cannot do is said before anything is started."""

import json

import pytest
from click.testing import CliRunner

from edge_runtime.cli.main import edge


@pytest.fixture
def worker(tmp_path):
    (tmp_path / "entry.py").write_text("")
    workflows = [{"name": "flow", "binding": "FLOW", "class_name": "Flow"}]
    config = {"name": "shop", "main": "entry.py", "compatibility_date": "2026-05-01"}
    (tmp_path / "wrangler.json").write_text(json.dumps({**config, "workflows": workflows}))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "entry.py").write_text("")
    (tmp_path / "other" / "wrangler.json").write_text(json.dumps(config))
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--request", "no path"), 'allowed is a path such as "/", or "POST /orders"'),
        (("--workflow", "glow"), "has no workflow of that name; it has flow"),
        (("--workflow", "flow", "--params", "{"), "--params is not JSON"),
        (("--workflow", "flow", "--request", "/"), "--workflow starts instances: it goes without --request"),
        (("--max-more", "5"), "name two folders or revisions"),
        (("--body", "@none.txt"), "cannot read the body none.txt: No such file"),
        (("--rounds", "2", "."), "at least 3"),
        ((".", "--workflow", "glow"), "cannot start 'glow': . (1) has no workflow of that name"),
        (("other", "--workflow", "flow"), "cannot start 'flow': other has no workflow of that name; it has none"),
    ],
)
def test_wrong_arguments_are_answered_with_what_is_allowed(worker, monkeypatch, arguments, message):
    monkeypatch.chdir(worker)
    answer = CliRunner().invoke(edge, ["bench", ".", *arguments])
    assert answer.exit_code == 1
    assert message in str(answer.exception)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--at-most", "p51=3"), "allowed: one of p50, p95, p99, user, isolate, ="),
        (("--at-most", "p50"), "'p50' is no bound"),
        (("--at-most", "p50=nan"), "'p50=nan' is no bound"),
        (("--header", "nothing"), "is not NAME:VALUE"),
    ],
)
def test_options_of_a_wrong_form_are_usage_errors(worker, arguments, message):
    answer = CliRunner().invoke(edge, ["bench", str(worker), *arguments])
    assert answer.exit_code == 2
    assert message in " ".join(answer.output.replace("\u2502", " ").split())


@pytest.mark.needs("profiler")
def test_flame_graph_that_cannot_be_written_is_refused_before_anything_is_measured(worker):
    answer = CliRunner().invoke(edge, ["bench", str(worker), "--flame", str(worker / "none" / "flame.svg")])
    assert answer.exit_code == 1
    assert f"{worker / 'none'} is no folder" in str(answer.exception)
