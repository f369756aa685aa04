"""Bills against sums done by hand, and against the examples that providers publish with their prices."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest
from bill_rows import row

from edge_runtime.metering.bill import bill_document, decimal_text, make_bill, money_text
from edge_runtime.metering.tariff import load_tariff, parse_tariff


def cost(tariff, rows):
    return decimal_text(make_bill(load_tariff(tariff), rows).cost)


def costs(tariff, rows):
    return {line.meter: decimal_text(line.cost) for line in make_bill(load_tariff(tariff), rows).lines if line.cost}


@pytest.mark.parametrize(
    ("requests", "cpu_ms_each", "total"),
    [
        (15_000_000, 7, "8"),  # $5 + 1.50 for requests + 1.50 for CPU time
        (100_000_000, 7, "45.4"),  # $5 + 27.00 + 13.40
        (80_000, 7, "5"),  # inside the allotments
    ],
)
def test_cloudflare_examples_of_requests(requests, cpu_ms_each, total):
    assert cost("cloudflare", [row(events=requests, cpu_us=requests * cpu_ms_each * 1000)]) == total


def test_cloudflare_example_of_a_cron_trigger():
    hourly = row("scheduled", name="Default.scheduled", events=720, cpu_us=720 * 3 * 60 * 1_000_000)
    assert costs("cloudflare", [hourly]) == {"Workers CPU time": "1.992"}
    assert cost("cloudflare", [hourly]) == "6.992"


def test_cloudflare_example_of_an_object():
    called = row(
        "fetch", product="object", name="Counter.fetch", events=1_500_000, wall_ms=5e9, active_us=10**12, cpu_us=9**9
    )
    bill = make_bill(load_tariff("cloudflare"), [called])
    assert {line.meter: decimal_text(line.cost) for line in bill.lines if line.cost} == {
        "Durable Objects requests": "0.075"
    }
    (duration,) = (line for line in bill.lines if line.meter == "Durable Objects duration")
    assert decimal_text(duration.quantity) == "128000"


def test_twenty_messages_are_one_request_and_constructors_are_none():
    rows = [
        row("websocket", product="object", name="Room.webSocketMessage", events=100),
        row("rpc", product="object", name="Room.constructor", events=7),
        row("rpc", product="object", name="Room.join", events=2),
        row("websocket", name="Default.fetch", events=1000),
    ]
    lines = {line.meter: line.quantity for line in make_bill(load_tariff("cloudflare"), rows).lines}
    assert lines["Durable Objects requests"] == 7
    assert lines["Workers requests"] == 0


def test_a_20_second_wait_in_a_step_costs_its_cpu_time_alone():
    waited = [
        row("workflow", product="workflow", name="ask", events=1, cpu_us=400, wall_ms=20_003, executions=1),
        row("step", product="workflow", name="ask/model", events=1, cpu_us=900, wall_ms=20_000, steps=1),
    ]
    bill = make_bill(load_tariff("cloudflare"), waited)
    assert {line.meter: decimal_text(line.list_cost) for line in bill.lines if line.list_cost} == {
        "Workers requests": "0.0000003",
        "Workers CPU time": "0.000000026",
    }
    durations = {
        line.meter: decimal_text(line.list_cost) for line in make_bill(load_tariff("lambda-durable"), waited).lines
    }
    assert durations["Duration"] == "0.000041667583335"  # 20.0004 s x 0.125 GB x $0.0000166667


def test_lambda_example_of_30_million_invocations():
    invoked = row(events=30_000_000, wall_ms=6_000_000_000)
    assert costs("lambda-durable", [invoked]) == {"Requests": "5.8", "Duration": "5.833345"}


def test_lambda_counts_operations_as_its_table_has_them():
    # A step with two retries, a wait, three branches of a step each, a callback: the execution is an operation, too.
    rows = [
        row(
            "workflow", product="workflow", name="flow", events=2, executions=1, sleeps=1, waits=1, bytes_persisted=1000
        ),
        row("step", product="workflow", name="flow/a", events=3, steps=1, step_retries=2, bytes_persisted=500),
        row("step", product="workflow", name="flow/b", events=3, steps=3),
        row(name="Default.fetch", bytes_persisted=10**12),
    ]
    lines = {line.meter: line for line in make_bill(load_tariff("lambda-durable"), rows).lines}
    assert lines["Durable operations"].quantity == 1 + 3 + 1 + 3 + 1
    assert decimal_text(lines["Durable operations"].cost) == "0.000072"
    assert decimal_text(lines["Data written"].cost) == "0.000000375"
    assert lines["Requests"].quantity == 2


def test_cloudflow_counts_transitions_beyond_5000():
    rows = [row("step", product="workflow", name="flow/a", events=5000, steps=4000, step_retries=1000)]
    assert cost("cloudflow", rows) == "0"
    assert cost("cloudflow", [*rows, row("workflow", product="workflow", sleeps=3000, executions=9)]) == "0.05"
    assert cost("cloudflow", [*rows, row("workflow", product="workflow", sleeps=1000, waits=10)]) == "0.00025"


def test_allotments_and_fee_are_of_each_month():
    november, december = row(events=12_000_000), row(events=9_000_000, at="2026-12-31T23:00")
    bill = make_bill(load_tariff("cloudflare"), [november, december])
    (requests,) = (line for line in bill.lines if line.meter == "Workers requests")
    assert bill.months == ("2026-11", "2026-12")
    assert (requests.quantity, requests.included, requests.billable) == (21_000_000, 20_000_000, 2_000_000)
    assert decimal_text(bill.cost) == "10.6"
    assert decimal_text(bill.list_cost) == "6.3"


def test_groups_add_up_to_the_bill_exactly():
    rows = [
        row(worker="a", events=10_000_000, at="2026-11-01T00:00"),
        row(worker="a", events=1, at="2026-12-01T00:00"),
        row(worker="b", events=3_000_001, cpu_us=7, at="2026-11-01T00:00"),
        row("step", product="workflow", worker="c", name="flow/s", cpu_us=31_000_000_000, at="2026-11-01T00:00"),
    ]
    bill = make_bill(load_tariff("cloudflare"), rows, ["worker", "month"])
    assert [group.key for group in bill.groups] == [
        ("a", "2026-11"),
        ("a", "2026-12"),
        ("b", "2026-11"),
        ("c", "2026-11"),
    ]
    assert sum(group.cost for group in bill.groups) + bill.fee == bill.cost
    assert sum(group.list_cost for group in bill.groups) == bill.list_cost
    by = {group.key: group for group in bill.groups}
    assert by["a", "2026-11"].cost == Fraction(3_000_001 * 3, 10_000_000) * Fraction(10_000_000, 13_000_001)
    assert by["a", "2026-12"].cost == 0
    assert by["b", "2026-11"].quantities == {"Workers requests": 3_000_001, "Workers CPU time": Fraction(7, 1000)}


@pytest.mark.parametrize(
    ("group_by", "keys"),
    [
        ("handler", {"Default.fetch", "flow/s"}),
        ("owner", {"", "flow"}),
        ("product", {"worker", "workflow"}),
        ("kind", {"fetch", "step"}),
        ("version", {"v1"}),
        ("day", {"2026-11-05"}),
        ("hour", {"2026-11-05T10:00Z"}),
    ],
)
def test_usage_is_grouped_by_what_the_ledger_knows(group_by, keys):
    rows = [row(events=1), row("step", product="workflow", name="flow/s", cpu_us=1)]
    groups = make_bill(load_tariff("cloudflare"), rows, [group_by]).groups
    assert {group.key[0] for group in groups} == keys


def test_no_usage_costs_nothing_and_no_fee():
    bill = make_bill(load_tariff("cloudflare"), [], ["worker"])
    assert (bill.cost, bill.list_cost, bill.groups, bill.months) == (0, 0, (), ())


def test_document_keeps_amounts_to_the_last_digit():
    tariff = parse_tariff(
        b'name = "t"\ntitle = "T"\nsource = "s"\ndate = 2026-01-01\ncurrency = "USD"\n'
        b'[[meters]]\nname = "m"\nunit = "u"\nprice = 0.1\nper = 1000000000\ncounts = [{quantity = "events"}]\n',
        "t.toml",
    )
    document = json.loads(json.dumps(bill_document(make_bill(tariff, [row(events=3)], ["worker"]))))
    assert document["cost"] == document["lines"][0]["cost"] == "0.0000000003"
    assert document["groups"] == [
        {"worker": "shop", "quantities": {"m": "3"}, "cost": "0.0000000003", "list_cost": "0.0000000003"}
    ]


@pytest.mark.parametrize(
    ("value", "exact", "shown"),
    [
        (Fraction(0), "0", "0.00"),
        (Fraction(8), "8", "8.00"),
        (Fraction(454, 10), "45.4", "45.40"),
        (Fraction(1, 3), "0.333333333333", "0.3333"),
        (Fraction(1992, 1000), "1.992", "1.992"),
        (Fraction(26, 10**9), "0.000000026", "0.000000026"),
        (Fraction(1, 10**14), "0.00000000000001", "0.00"),
    ],
)
def test_amounts_are_written_exactly_for_programs_and_briefly_for_people(value, exact, shown):
    assert decimal_text(value) == exact
    assert money_text(value) == shown
