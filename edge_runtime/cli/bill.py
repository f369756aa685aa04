"""`edge bill`: what the usage in the ledger costs by one tariff, or by several side by side."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from edge_runtime.cli.ledger import (
    check_period,
    group_by_option,
    instant_text,
    ledger_directory,
    say_if_empty,
    worker_option,
)
from edge_runtime.cli.options import data_option, json_option
from edge_runtime.cli.period import from_option, to_option
from edge_runtime.cli.tables import Cell, print_rows
from edge_runtime.cli.usage_now import usage_now
from edge_runtime.errors import UsageError
from edge_runtime.metering.bill import Bill, bill_document, decimal_text, make_bill, money_text
from edge_runtime.metering.grouping import hour_start_ms, month_start_ms
from edge_runtime.metering.tariff import Tariff, load_tariff, shipped

_DEFAULT = "cloudflare"
_AMOUNTS = ("quantity", "price", "included", "billable", "cost", "list cost")


@click.command()
@data_option
@click.option(
    "--tariff",
    "tariffs",
    multiple=True,
    metavar="NAME|FILE",
    help=f"{', '.join(shipped())} or a tariff file; several are shown side by side. By default {_DEFAULT}.",
)
@from_option
@to_option
@worker_option
@group_by_option
@json_option
def bill(
    data_dir: Path | None,
    tariffs: tuple[str, ...],
    from_ms: int | None,
    to_ms: int | None,
    worker: str | None,
    group_by: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show what the usage in the ledger would cost: quantities, unit prices, allotments, cost.

    CPU time is what the worker's own code used; waiting costs nothing. `cost` is after the month's allotments, `list
    cost` what the same usage costs from the first unit on. What a running server is
    about counts when it is answered.
    """
    directory = ledger_directory(data_dir)
    chosen = _load(dict.fromkeys(tariffs or (_DEFAULT,)))
    since_ms = month_start_ms(time.time_ns() // 1_000_000) if from_ms is None else hour_start_ms(from_ms)
    check_period("bill", since_ms if from_ms is None else from_ms, to_ms)
    rows = usage_now(directory, worker, since_ms, to_ms)
    bills = [make_bill(tariff, rows, group_by) for tariff in chosen]
    if as_json:
        click.echo(json.dumps([bill_document(each) for each in bills], indent=2))
        return
    say_if_empty(rows, directory, worker)
    click.echo(f"Usage from {instant_text(since_ms)}{'' if to_ms is None else f' to {instant_text(to_ms)}'}")
    if len(bills) > 1:
        _print_side_by_side(bills)
    for each in bills:
        click.echo()
        _print_bill(each)


def _load(names: Iterable[str]) -> list[Tariff]:
    """UsageError if two have the same name, under which they would be shown."""
    chosen: dict[str, tuple[str, Tariff]] = {}
    for name in names:
        tariff = load_tariff(name)
        if tariff.name in chosen:
            other, _ = chosen[tariff.name]
            raise UsageError(
                f'cannot tell the tariffs {other} and {name} apart: both have name = "{tariff.name}"; give one of them '
                "another"
            )
        chosen[tariff.name] = name, tariff
    return [tariff for _, tariff in chosen.values()]


def _print_side_by_side(bills: Sequence[Bill]) -> None:
    """One row a group (one row in all, without grouping), one pair of columns a tariff."""
    group_by = bills[0].group_by
    headed = [(f"{each.tariff.name}, {each.tariff.currency}", f"{each.tariff.name} list") for each in bills]
    rows: dict[tuple[str, ...], dict[str, Cell]] = {}
    for each, (cost, list_cost) in zip(bills, headed, strict=True):
        for group in each.groups:
            row = rows.setdefault(group.key, dict(zip(group_by, group.key, strict=True)))
            row[cost] = money_text(group.cost)
            row[list_cost] = money_text(group.list_cost)
    shown = [rows[key] for key in sorted(rows)]
    if group_by:
        fees: dict[str, Cell] = {cost: money_text(each.fee) for each, (cost, _) in zip(bills, headed, strict=True)}
        if any(each.fee for each in bills):
            shown.append({**dict.fromkeys(group_by, ""), group_by[0]: "fee", **fees})
        shown.append({**dict.fromkeys(group_by, ""), group_by[0]: "total"})
    else:
        shown.append({})
    for each, (cost, list_cost) in zip(bills, headed, strict=True):
        shown[-1][cost] = money_text(each.cost)
        shown[-1][list_cost] = money_text(each.list_cost)
    columns = [*group_by, *(column for pair in headed for column in pair)]
    print_rows(columns, shown, as_json=False, right=set(columns) - set(group_by))


def _print_bill(each: Bill) -> None:
    tariff = each.tariff
    click.echo(f"{tariff.title} ({tariff.source}, read {tariff.date.isoformat()}), {tariff.currency}")
    columns = ["meter", "quantity", "unit", "price", "included", "billable", "cost", "list cost"]
    lines: list[dict[str, Cell]] = [
        {
            "meter": line.meter,
            "quantity": decimal_text(line.quantity),
            "unit": line.unit,
            "price": f"{line.price}" + (f" / {line.per:,}" if line.per != 1 else ""),
            "included": decimal_text(line.included),
            "billable": decimal_text(line.billable),
            "cost": money_text(line.cost),
            "list cost": money_text(line.list_cost),
        }
        for line in each.lines
    ]
    if each.fee:
        lines.append({"meter": f"Fee for {', '.join(each.months)}", "cost": money_text(each.fee), "list cost": "0.00"})
    lines.append({"meter": "Total", "cost": money_text(each.cost), "list cost": money_text(each.list_cost)})
    print_rows(
        columns, [{column: line.get(column, "") for column in columns} for line in lines], as_json=False, right=_AMOUNTS
    )
    if each.group_by:
        click.echo()
        units = {line.meter: line.unit for line in each.lines}
        groups: list[dict[str, Cell]] = [
            {
                **dict(zip(each.group_by, group.key, strict=True)),
                "cost": money_text(group.cost),
                "list cost": money_text(group.list_cost),
                "quantities": "; ".join(
                    f"{name} {decimal_text(value)} {units[name]}" for name, value in group.quantities.items()
                ),
            }
            for group in each.groups
        ]
        print_rows([*each.group_by, "cost", "list cost", "quantities"], groups, as_json=False, right=_AMOUNTS)
    for note in tariff.notes:
        click.echo(f"- {note}")
