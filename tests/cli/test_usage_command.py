"""`edge usage` over a ledger on disk."""

from __future__ import annotations

import json

import pytest
import trio
from click.testing import CliRunner
from fixed_clock import FixedClock

from edge_runtime.cli.main import edge
from edge_runtime.metering.ledger import Ledger
from edge_runtime.metering.tally import Owner, PrivateSegments
from edge_runtime.store.lmdb_store import open_store


@pytest.fixture
def data(tmp_path):
    """Two versions of `shop` in two hours, one request of them failed, and a step of `blog`."""

    async def write():
        async with open_store(tmp_path / "store") as store:
            for at, version, outcome in (
                ("2026-01-31T22:59", "v1", "ok"),
                ("2026-01-31T23:10", "v2", "ok"),
                ("2026-01-31T23:20", "v2", "exception"),
            ):
                ledger = Ledger(store, FixedClock(at), Owner("shop", version, "1-1", 0), PrivateSegments())
                ledger.charge("fetch", "Default.fetch", 2_000_000, 5.0, outcome, {"kv_reads": 3, "bytes_out": 10})
                await ledger.flush()
            ledger = Ledger(store, FixedClock("2026-01-31T23:00"), Owner("blog", "v1", "1-1", 0), PrivateSegments())
            ledger.charge("step", "post/render", 1_000_000, 20_000.0, "ok", {}, product="workflow")
            await ledger.flush()

    trio.run(write)
    return tmp_path


def run(data, *arguments):
    return CliRunner().invoke(edge, ["usage", "--data", str(data), *arguments])


def groups(data, *arguments):
    answer = run(data, *arguments, "--json")
    assert answer.exit_code == 0, answer.output
    return json.loads(answer.output)


def test_usage_is_shown_by_handler_with_operations_errors_and_a_total(data):
    answer = run(data)
    assert answer.exit_code == 0, answer.output
    head, step, fetch, total = (line.split() for line in answer.output.splitlines())
    assert head == ["worker", "kind", "handler", "events", "cpu_us", "wall_ms", "errors", "operations"]
    assert step == ["blog", "step", "post/render", "1", "1000", "20000"]
    assert fetch == [
        "shop",
        "fetch",
        "Default.fetch",
        "3",
        "6000",
        "15",
        "1",
        "exception",
        "30",
        "bytes_out,",
        "9",
        "kv_reads",
    ]
    assert total == ["total", "4", "7000", "20015", "1", "exception", "30", "bytes_out,", "9", "kv_reads"]


@pytest.mark.parametrize(
    ("group_by", "found"),
    [
        ("version", [("v1", 2), ("v2", 2)]),
        ("hour", [("2026-01-31T22:00Z", 1), ("2026-01-31T23:00Z", 3)]),
        ("owner", [("", 3), ("post", 1)]),
    ],
)
def test_usage_is_grouped_by_what_is_asked_for(data, group_by, found):
    assert [(group[group_by], group["events"]) for group in groups(data, "--group-by", group_by)] == found


def test_programs_get_quantities_and_errors_by_name(data):
    (shop,) = groups(data, "--worker", "shop", "--group-by", "worker")
    assert shop == {
        "worker": "shop",
        "events": 3,
        "cpu_us": 6000,
        "wall_ms": 15,
        "kv_reads": 9,
        "bytes_out": 30,
        "errors": {"exception": 1},
    }


def test_hour_in_which_the_period_begins_is_part_of_it_as_in_the_bill(data):
    assert sum(group["events"] for group in groups(data, "--from", "2026-01-31T23:15")) == 3
    assert sum(group["events"] for group in groups(data, "--from", "2026-01-31T22:59", "--to", "2026-01-31T23:00")) == 1


def test_nothing_found_is_told_apart_from_nothing_used(data):
    assert "no usage of a worker 'shep'; it has blog, shop" in run(data, "--worker", "shep").output
    assert "No usage in this period" in run(data, "--worker", "shop", "--from", "2026-03-01").output
    assert groups(data, "--worker", "shep") == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--reconcile", "--export", "csv"), "give --reconcile or --export"),
        (("--group-by", "worker", "--export", "csv"), "give --export or --group-by"),
        (("--export", "csv", "--json"), "give --json or --export jsonl"),
        (("--from", "2026-02-01", "--to", "2026-01-01"), "--to must be later than --from"),
    ],
)
def test_options_that_do_not_go_together_are_refused(data, arguments, message):
    answer = run(data, *arguments)
    assert answer.exit_code == 1
    assert message in str(answer.exception)


def test_folder_without_a_store_in_it_is_no_data_directory(tmp_path):
    (tmp_path / "store").mkdir()
    assert f"no data directory at {tmp_path}" in str(run(tmp_path).exception)
