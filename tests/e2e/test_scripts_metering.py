"""The bill against the scripts' own clocks: CPU time of handlers and of whatever they start, and none of waiting."""

import json
from pathlib import Path

import pytest
from edge_process import EdgeProcess
from script_workers import FLAVOURS, SCRIPTS, edge_command, write_worker

WAYS = ("loop", "children", "threads", "later", "generated", "object", "alarm", "flow", "sleep")


class Bill:
    """One worker of one flavour, run through everything once, one thing at a time, and its usage read afterwards.

    `used[way]` is what the script measured, in microseconds; `row(name)` what `edge usage` says of a handler.
    """

    def __init__(self, root: Path, flavour: str) -> None:
        data = root / "data"
        write_worker(
            root / "metering",
            (SCRIPTS / "metering.py").read_text(),
            compatibility_flags=["python_workers"] if flavour == "asyncio" else [],
            compatibility_date="2026-01-01",
            vars={"FLAVOUR": flavour},
            durable_objects={"bindings": [{"name": "WORKER", "class_name": "Worker"}]},
            migrations=[{"tag": "v1", "new_sqlite_classes": ["Worker"]}],
            workflows=[{"name": "flow", "binding": "FLOW", "class_name": "Flow"}],
        )
        self.fetch_us = {}
        with EdgeProcess("dev", root / "metering", "--port", 0, "--data", data, "--no-reload").wait_ready() as edge:
            with edge.client() as client:
                for way in WAYS:
                    assert client.get(f"/{way}").status_code == 200
                    line = edge.wait_for(rf"fetch Default.fetch GET /{way} 200 \((\d+) us CPU, ([\d.]+) ms\)")
                    self.fetch_us[way] = int(line[1])
                    self.sleep_wall_ms = float(line[2])
                edge.wait_for("alarm Worker.alarm")
                self.used = client.get("/").json()
            self.while_running = edge_command("usage", "--data", data, "--json")
            assert edge.interrupt() == 0
        self.rows = json.loads(edge_command("usage", "--data", data, "--json"))

    def row(self, name: str) -> dict[str, int]:
        (row,) = (row for row in self.rows if row["handler"] == name)
        return row


@pytest.fixture(scope="module", params=FLAVOURS)
def bill(request, tmp_path_factory):
    return Bill(tmp_path_factory.mktemp("metering"), request.param)


def about(cpu_us: int) -> object:
    return pytest.approx(cpu_us, rel=0.2)


@pytest.mark.parametrize("way", ["loop", "children", "threads", "later", "generated"])
def test_request_is_charged_with_what_its_code_used(bill, way):
    assert bill.fetch_us[way] == about(bill.used[way])


def test_objects_and_alarms_are_charged_apart_from_the_request_that_called_them(bill):
    assert bill.row("Worker.work")["cpu_us"] == about(bill.used["object"])
    assert bill.row("Worker.alarm")["cpu_us"] == about(bill.used["alarm"])
    assert bill.fetch_us["object"] < 20_000
    assert bill.fetch_us["alarm"] < 20_000


def test_workflow_steps_are_charged_one_by_one_in_threads_too(bill):
    assert bill.row("flow/async step")["cpu_us"] == about(bill.used["async step"])
    assert bill.row("flow/sync step")["cpu_us"] == about(bill.used["sync step"])
    run = next(row for row in bill.rows if row["kind"] == "workflow")
    assert run["cpu_us"] == about(bill.used["run"])


def test_waiting_costs_wall_time_and_no_cpu(bill):
    assert bill.fetch_us["sleep"] < 20_000
    assert bill.sleep_wall_ms >= 500


def test_totals_are_the_sum_of_the_events_and_are_there_while_the_server_runs(bill):
    fetches = bill.row("Default.fetch")
    assert fetches["events"] == len(WAYS) + 1
    assert fetches["cpu_us"] == pytest.approx(sum(bill.fetch_us.values()), rel=0.05)
    assert fetches["wall_ms"] >= 500
    assert fetches["errors"] == 0
    while_running = {row["handler"]: row["events"] for row in json.loads(bill.while_running)}
    assert while_running.get("Default.fetch", 0) >= len(WAYS) - 2
