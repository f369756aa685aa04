"""The usage binding: its section in the configuration, and the ledger as a script reads it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from kv_fakes import StillClock, running_event

from bindings.usage import KIND
from bindings.usage.kind import UsageSpec
from bindings.usage.reader import UsageReader
from edge_runtime.config.model import Where
from edge_runtime.errors import ConfigError
from edge_runtime.metering.ledger import HOUR_MS, Ledger
from edge_runtime.metering.tally import Owner, PrivateSegments
from edge_runtime.metering.tariff import parse_tariff
from edge_runtime.store.memory_store import open_memory_store

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
counts = [{quantity = "events"}]
"""
NOW_MS = int(datetime(2026, 11, 15, 12, tzinfo=UTC).timestamp() * 1000)


def parsed(section, folder="."):
    return list(KIND.parse({"usage": section}, "shop", Where(f"{folder}/wrangler.jsonc")))


def test_section_names_the_binding_its_scope_and_tariffs(tmp_path):
    (tmp_path / "prices.toml").write_text(TARIFF)
    assert list(KIND.parse({}, "shop", Where("wrangler.jsonc"))) == []
    (plain,) = parsed({"binding": "USAGE"})
    assert (plain.name, plain.spec) == ("USAGE", UsageSpec("worker", ()))
    (full,) = parsed({"binding": "USAGE", "scope": "all", "tariffs": ["prices.toml"]}, tmp_path)
    assert full.spec.scope == "all"
    assert [tariff.name for tariff in full.spec.tariffs] == ["flat"]


@pytest.mark.parametrize(
    ("section", "at"),
    [
        ({}, "usage.binding"),
        ({"binding": "my usage"}, "usage.binding"),
        ({"binding": "USAGE", "scope": "world"}, "usage.scope"),
        ({"binding": "USAGE", "tariffs": ["../prices.toml"]}, "usage.tariffs[0]"),
        ({"binding": "USAGE", "tariffs": ["none.toml"]}, "usage.tariffs[0]"),
        ({"binding": "USAGE", "tariffs": ["prices.toml", "prices.toml"]}, "usage.tariffs[1]"),
        ({"binding": "USAGE", "tariffs": ["broken.toml"]}, "meters[0].price"),
    ],
)
def test_wrong_section_is_answered_with_its_place(section, at, tmp_path):
    (tmp_path / "prices.toml").write_text(TARIFF)
    (tmp_path / "broken.toml").write_text(TARIFF.replace("0.01", "-1"))
    with pytest.raises(ConfigError) as caught:
        parsed(section, tmp_path)
    assert caught.value.at == at


@pytest.fixture
async def store():
    """Three requests of `shop` and a step of its workflow, this month; a request of it last month, one of `blog`."""
    async with open_memory_store() as opened:
        for worker, at_ms, charges in (
            ("shop", NOW_MS, [("fetch", "Default.fetch", "worker")] * 3 + [("step", "pay/charge", "workflow")]),
            ("shop", NOW_MS - 30 * 24 * HOUR_MS, [("fetch", "Default.fetch", "worker")]),
            ("blog", NOW_MS, [("fetch", "Default.fetch", "worker")]),
        ):
            ledger = Ledger(opened, StillClock(at_ms), Owner(worker, "v1", "1-1", 0), PrivateSegments())
            for kind, name, product in charges:
                ledger.charge(kind, name, 1_000_000, 2.0, "ok", {"kv_reads": 5}, product=product)
            await ledger.flush()
        yield opened


def reader(store, worker="shop"):
    return UsageReader(store, StillClock(NOW_MS), [parse_tariff(TARIFF.encode(), "flat.toml")], worker)


async def test_usage_is_this_months_by_handler_and_the_workers_own(store):
    async with running_event():
        usage = await reader(store).usage()
        assert [(row.handler, row.events, row.cpu_us, row["kv_reads"], row.errors) for row in usage] == [
            ("Default.fetch", 3, 3000, 15, {}),
            ("pay/charge", 1, 1000, 5, {}),
        ]


@pytest.mark.parametrize(
    ("options", "events"),
    [
        ({"since": NOW_MS - 40 * 24 * HOUR_MS}, {"2026-10": 1, "2026-11": 4}),
        ({"since": "2026-10-01", "until": "2026-11-01T00:00Z"}, {"2026-10": 1}),
        ({"since": datetime(2026, 10, 1), "until": datetime(2026, 11, 15, 12)}, {"2026-10": 1}),
        ({"since": NOW_MS + 59 * 60_000}, {"2026-11": 4}),
        ({"since": NOW_MS + HOUR_MS}, {}),
    ],
)
async def test_period_is_given_in_hours(store, options, events):
    async with running_event():
        usage = await reader(store).usage(options, group_by="month")
        assert {row.month: row.events for row in usage} == events


async def test_bill_is_by_a_tariff_of_the_runtime_or_of_the_worker(store):
    async with running_event():
        usage = reader(store)
        assert usage.tariffs == ["cloudflare", "cloudflow", "flat", "lambda-durable"]
        bill = await usage.bill()
        assert (bill.tariff, bill.cost) == ("cloudflare", "5")
        flat = await usage.bill({"tariff": "flat"}, groupBy=["handler"])
        assert flat.cost == "0.04"
        assert [(group.handler, group.cost) for group in flat.groups] == [
            ("Default.fetch", "0.03"),
            ("pay/charge", "0.01"),
        ]


async def test_scope_decides_whose_usage_is_read(store):
    async with running_event():
        with pytest.raises(ValueError, match=r'reads its own usage only; set "scope": "all"'):
            await reader(store).usage(worker="blog")
        everything = await reader(store, worker=None).usage(groupBy="worker")
        assert [(row.worker, row.events) for row in everything] == [("blog", 1), ("shop", 4)]
        (blog,) = await reader(store, worker=None).usage(worker="blog")
        assert blog.events == 1


@pytest.mark.parametrize(
    ("call", "options", "message"),
    [
        ("usage", {"from": 5}, r"usage\(\) has no option 'from'; it has since, until, groupBy, worker"),
        ("usage", {"tariff": "flat"}, "has no option 'tariff'"),
        ("usage", {"groupBy": "colour"}, "cannot group by 'colour'; there are worker, version"),
        ("usage", {"groupBy": 5}, "a name or a list of names, not int"),
        ("usage", {"since": "yesterday"}, "'yesterday' is no instant in ISO 8601"),
        ("usage", {"since": True}, "not bool"),
        ("usage", {"until": float("inf")}, "until: inf is no instant"),
        ("bill", {"since": float("nan")}, "since: nan is no instant"),
        ("bill", {"since": 1e300}, r"since: 1e\+300 is no instant; allowed are 8640000000000000 ms"),
        ("usage", {"since": 7_200_000, "until": 7_200_000}, "until must be later than since"),
        ("usage", {"worker": 5}, "as a string, not int"),
        ("usage", 5, "as a dict or as keyword arguments, not int"),
        ("bill", {"tariff": "azure"}, "knows no tariff 'azure'; there are cloudflare, cloudflow, flat, lambda-durable"),
    ],
)  # fmt: skip
async def test_wrong_options_reject_the_promise(store, call, options, message):
    async with running_event():
        promise = getattr(reader(store), call)(options)
        with pytest.raises((TypeError, ValueError, OverflowError), match=message):
            await promise
