"""`edge bill` over a ledger on disk."""

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

TARIFF = """
name = "flat"
title = "A cent a request"
source = "a contract"
date = 2026-01-01
currency = "EUR"
[[meters]]
name = "Requests"
unit = "requests"
price = 0.01
included = 1
counts = [{quantity = "events", kinds = ["fetch"]}]
"""


@pytest.fixture
def data(tmp_path):
    """Three requests of `shop` and two of `blog` in January, one of `shop` in February."""

    async def write():
        async with open_store(tmp_path / "store") as store:
            for at, worker, count in (
                ("2026-01-31T23:59", "shop", 3),
                ("2026-01-10T08:30", "blog", 2),
                ("2026-02-01T00:00", "shop", 1),
            ):
                ledger = Ledger(store, FixedClock(at), Owner(worker, "v1", "1-1", 0), PrivateSegments())
                for _ in range(count):
                    ledger.charge("fetch", "Default.fetch", 2_000_000_000, 5.0, "ok", {"kv_reads": 10})
                await ledger.flush()

    trio.run(write)
    (tmp_path / "flat.toml").write_text(TARIFF)
    return tmp_path


def run(data, *arguments):
    return CliRunner().invoke(edge, ["bill", "--data", str(data), *map(str, arguments)])


def bills(data, *arguments):
    answer = run(data, *arguments, "--json")
    assert answer.exit_code == 0, answer.output
    return json.loads(answer.output)


def test_bill_shows_quantity_price_allotment_and_cost(data):
    (bill,) = bills(data, "--from", "2026-01-01", "--tariff", "cloudflare")
    assert bill["months"] == ["2026-01", "2026-02"]
    assert (bill["fee"], bill["cost"], bill["list_cost"]) == ("10", "10", "0.0002718")
    cpu = next(line for line in bill["lines"] if line["meter"] == "Workers CPU time")
    assert cpu == {
        "meter": "Workers CPU time",
        "unit": "ms",
        "quantity": "12000",
        "included": "60000000",
        "billable": "0",
        "price": "0.02",
        "per": 1000000,
        "cost": "0",
        "list_cost": "0.00024",
    }


def test_period_and_worker_choose_the_usage(data):
    flat = ("--tariff", data / "flat.toml")
    (january,) = bills(data, *flat, "--from", "2026-01-01", "--to", "2026-02-01")
    assert (january["lines"][0]["quantity"], january["cost"]) == ("5", "0.04")
    (evening,) = bills(data, *flat, "--from", "2026-01-31T23:30Z", "--to", "2026-02-01")
    assert evening["lines"][0]["quantity"] == "3"
    (blog,) = bills(data, *flat, "--from", "2026-01-01", "--worker", "blog")
    assert blog["lines"][0]["quantity"] == "2"
    (now,) = bills(data, *flat)
    assert (now["lines"][0]["quantity"], now["months"]) == ("0", [])


def test_groups_share_the_cost(data):
    (bill,) = bills(data, "--tariff", data / "flat.toml", "--from", "2026-01-01", "--group-by", "worker,month")
    assert [(g["worker"], g["month"], g["quantities"]["Requests"], g["cost"]) for g in bill["groups"]] == [
        ("blog", "2026-01", "2", "0.016"),
        ("shop", "2026-01", "3", "0.024"),
        ("shop", "2026-02", "1", "0"),
    ]


def test_tariffs_stand_side_by_side_over_the_same_groups(data):
    answer = run(
        data, "--tariff", "cloudflare", "--tariff", data / "flat.toml", "--from", "2026-01-01", "--group-by", "worker"
    )
    assert answer.exit_code == 0, answer.output
    table = [line.split() for line in answer.output.splitlines()[1:6]]
    assert table == [
        ["worker", "cloudflare,", "USD", "cloudflare", "list", "flat,", "EUR", "flat", "list"],
        ["blog", "0.00", "0.0000906", "0.016", "0.02"],
        ["shop", "0.00", "0.0001812", "0.024", "0.04"],
        ["fee", "10.00", "-", "0.00", "-"],
        ["total", "10.00", "0.0002718", "0.04", "0.06"],
    ]
    assert "Workers CPU time 8000 ms; KV reads 40 keys" in answer.output
    assert "A cent a request (a contract, read 2026-01-01), EUR" in answer.output
    assert "0.01" in answer.output


def test_wrong_arguments_say_what_is_allowed(data, tmp_path):
    assert "no data directory" in str(run(tmp_path / "none").exception)
    assert 'no tariff "azure"' in str(run(data, "--tariff", "azure").exception)
    assert "allowed: worker, version" in run(data, "--group-by", "colour").output
    assert "ISO 8601" in run(data, "--from", "yesterday").output
    assert "--to must be later than --from" in str(run(data, "--from", "2026-02-01", "--to", "2026-01-01").exception)
    (data / "flat.toml").write_text(TARIFF.replace("price = 0.01", 'price = "a lot"'))
    assert str(run(data, "--tariff", data / "flat.toml").exception) == (
        f'{data}/flat.toml: meters[0].price: found the string "a lot"; allowed: a number'
    )


def test_tariffs_of_one_name_are_not_mixed_up(data):
    (data / "copy.toml").write_text(TARIFF)
    answer = run(data, "--tariff", data / "flat.toml", "--tariff", data / "copy.toml")
    assert str(answer.exception) == (
        f'cannot tell the tariffs {data}/flat.toml and {data}/copy.toml apart: both have name = "flat"; give one of '
        "them another"
    )


@pytest.mark.parametrize("ago", ["24h", "7d", "2w"])
def test_a_time_ago_is_a_time(data, ago):
    assert bills(data, "--from", ago)[0]["months"] == []
