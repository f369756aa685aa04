"""What commands print, for people and for programs."""

import json
from importlib.metadata import PackageNotFoundError

import pytest
from click.testing import CliRunner

from edge_runtime.cli.main import edge
from edge_runtime.cli.report import JsonReport, TerminalReport
from edge_runtime.cli.tables import print_rows
from edge_runtime.log_lines import LogLine

ROWS = [{"name": "a", "count": 3, "none": None}, {"name": "longer", "count": 12345, "none": 1.25}]
LINE = LogLine(1_700_000_000_000, "fetch", "Default.fetch", "GET / 500", "exception", 250, 1.5, "Traceback: no\n")


def test_rows_are_aligned_with_numbers_to_the_right(capsys):
    print_rows(("name", "count", "none"), ROWS, as_json=False)
    assert capsys.readouterr().out.splitlines() == [
        "name    count  none",
        "a           3     -",
        "longer  12345   1.2",
    ]


def test_rows_as_json_keep_types(capsys):
    print_rows(("name", "count", "none"), ROWS, as_json=True)
    assert json.loads(capsys.readouterr().out) == ROWS


def report(kind, **options):
    lines = []
    return kind(lines.append, **options), lines


def test_event_line_shows_cost_status_outcome_and_error():
    terminal, lines = report(TerminalReport, several_workers=True, colour=False)
    terminal.log("shop", LINE)
    assert lines == [
        "[edge] shop fetch Default.fetch GET / 500 exception (250 us CPU, 1.5 ms)",
        "Traceback: no",
    ]


def test_quiet_report_shows_failures_only():
    terminal, lines = report(TerminalReport, several_workers=False, colour=False, quiet=True)
    terminal.log("shop", LogLine(0, "fetch", "Default.fetch", "GET / 200", "ok", 1, 1.0, ""))
    assert lines == []
    terminal.log("shop", LINE)
    assert len(lines) == 2


def test_json_report_is_one_object_a_line():
    machine, lines = report(JsonReport)
    machine.log("shop", LINE)
    machine.ready("http://localhost:1")
    event, ready = map(json.loads, lines)
    assert (event["type"], event["cpu_us"], event["at"]) == ("event", 250, "2023-11-14T22:13:20.000+00:00")
    assert ready == {"type": "ready", "url": "http://localhost:1"}


def run(*arguments):
    return CliRunner().invoke(edge, [str(argument) for argument in arguments])


@pytest.mark.parametrize(
    "command", ["dev", "run", "deploy", "usage", "bill", "bench", "init", "doctor", "workers", "kv", "workflows"]
)
def test_every_command_is_listed_and_has_help(command):
    assert command in run("--help").output
    answer = run(command, "--help")
    assert answer.exit_code == 0
    assert "Usage:" in answer.output


def test_init_writes_a_worker_and_overwrites_nothing(tmp_path):
    folder = tmp_path / "My Worker"
    assert run("init", folder).exit_code == 0
    assert '"name": "my-worker"' in (folder / "wrangler.jsonc").read_text()
    again = run("init", folder)
    assert "has wrangler.jsonc, src/entry.py, .gitignore already" in str(again.exception)


def test_init_refuses_a_name_that_is_none(tmp_path):
    assert "lower-case letters" in str(run("init", tmp_path / "x", "--name", "Not Good").exception)


def test_doctor_checks_the_machine(tmp_path):
    checks = {row["check"]: row for row in json.loads(run("doctor", "--json").output)}
    assert checks["lmdb"]["verdict"] == "ok"
    missing = run("doctor", "--data", tmp_path / "none", "--json")
    assert missing.exit_code == 1
    assert {row["check"]: row["verdict"] for row in json.loads(missing.output)}["data directory"] == "does not exist"


def test_doctor_misses_what_is_required_and_not_what_is_an_extra(monkeypatch):
    def absent(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr("edge_runtime.cli.doctor.version", absent)
    needed = ["lmdb<4,>=3.0", "py-spy<0.5,>=0.4.1; extra == 'profile'"]
    monkeypatch.setattr("edge_runtime.cli.doctor.requires", lambda _: needed)
    checks = {row["check"]: row for row in json.loads(run("doctor", "--json").output)}
    assert (checks["lmdb"]["found"], checks["lmdb"]["verdict"]) == ("absent", "install it")
    assert (checks["py-spy"]["found"], checks["py-spy"]["verdict"]) == ("absent; extra profile", "ok")


def test_usage_without_data_says_so(tmp_path):
    assert "no data directory" in str(run("usage", "--data", tmp_path).exception)


def test_worker_is_not_named_twice(tmp_path):
    answer = run("dev", tmp_path, "--config", tmp_path)
    assert answer.exit_code == 2
    assert "give one of FOLDER and --config" in answer.output


def test_commands_run_as_if_started_in_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    flow = {"binding": "FLOW", "name": "flow", "class_name": "Flow"}
    config = {"name": "elsewhere", "main": "entry.py", "compatibility_date": "2026-05-01", "workflows": [flow]}
    (tmp_path / "entry.py").write_text("")
    (tmp_path / "wrangler.json").write_text(json.dumps(config))
    assert "elsewhere" in run("--cwd", tmp_path, "workflows", "list").output
    assert run("-v").output == run("--version").output != ""


def test_variable_without_a_colon_is_a_usage_error(tmp_path):
    answer = run("dev", tmp_path, "--var", "NOPE")
    assert answer.exit_code == 2
    assert "NAME:VALUE" in answer.output
