"""`edge bill`: what the usage in the ledger costs by one tariff, or by several side by side."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from edge_runtime.cli.options import data_directory, data_option, json_option
from edge_runtime.cli.period import from_option, to_option
from edge_runtime.cli.tables import Cell, print_rows
from edge_runtime.cli.usage_now import usage_now
from edge_runtime.errors import UsageError
from edge_runtime.metering.bill import Bill, bill_document, decimal_text, make_bill, money_text
from edge_runtime.metering.grouping import GROUPINGS, hour_start_ms, month_start_ms
from edge_runtime.metering.tariff import load_tariff, shipped

_DEFAULT = "cloudflare"
_AMOUNTS = ("quantity", "price", "included", "billable", "cost", "list cost")


class Grouping(click.ParamType[tuple[str, ...]]):
    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        chosen = tuple(part.strip() for part in value.split(","))
        for part in chosen:
            if part not in GROUPINGS:
                self.fail(f"{part!r} is nothing to group by; allowed: {', '.join(GROUPINGS)}", param, ctx)
        return tuple(dict.fromkeys(chosen))


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
@click.option("--worker", default=None, help="This worker only.")
@click.option(
    "--group-by", "group_by", type=Grouping(), default=(), help=f"One or more of {','.join(GROUPINGS)}, with commas."
)
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
    directory = data_directory(data_dir, Path.cwd())
    if not (directory / "store").is_dir():
        raise UsageError(f"no data directory at {directory}; name one with --data")
    chosen = [load_tariff(name) for name in dict.fromkeys(tariffs or (_DEFAULT,))]
    since_ms = month_start_ms(time.time_ns() // 1_000_000) if from_ms is None else hour_start_ms(from_ms)
    if to_ms is not None and to_ms <= since_ms:
        raise UsageError(f"cannot bill from {_instant(since_ms)} to {_instant(to_ms)}: --to must be later than --from")
    rows = usage_now(directory, worker, since_ms, to_ms)
    bills = [make_bill(tariff, rows, group_by) for tariff in chosen]
    if as_json:
        click.echo(json.dumps([bill_document(each) for each in bills], indent=2))
        return
    click.echo(f"Usage from {_instant(since_ms)}{'' if to_ms is None else f' to {_instant(to_ms)}'}")
    if len(bills) > 1:
        _print_side_by_side(bills)
    for each in bills:
        click.echo()
        _print_bill(each)


def _print_side_by_side(bills: Sequence[Bill]) -> None:
    """One row a group (one row in all, without grouping), one pair of columns a tariff."""
    group_by = bills[0].group_by
    rows: dict[tuple[str, ...], dict[str, Cell]] = {}
    for each in bills:
        for group in each.groups:
            row = rows.setdefault(group.key, dict(zip(group_by, group.key, strict=True)))
            row[each.tariff.name] = money_text(group.cost)
            row[f"{each.tariff.name} list"] = money_text(group.list_cost)
    total: dict[str, Cell] = dict.fromkeys(group_by, "")
    for each in bills:
        total[each.tariff.name] = money_text(each.cost)
        total[f"{each.tariff.name} list"] = money_text(each.list_cost)
    columns = [*group_by, *(column for each in bills for column in (each.tariff.name, f"{each.tariff.name} list"))]
    headed = dict.fromkeys(group_by[:1], "total")
    print_rows(
        columns,
        [*(rows[key] for key in sorted(rows)), {**total, **headed}],
        as_json=False,
        right=set(columns) - set(group_by),
    )


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
        groups: list[dict[str, Cell]] = [
            {
                **dict(zip(each.group_by, group.key, strict=True)),
                "cost": money_text(group.cost),
                "list cost": money_text(group.list_cost),
                "quantities": ", ".join(f"{decimal_text(value)} {name}" for name, value in group.quantities.items()),
            }
            for group in each.groups
        ]
        print_rows([*each.group_by, "cost", "list cost", "quantities"], groups, as_json=False, right=_AMOUNTS)
    for note in tariff.notes:
        click.echo(f"- {note}")


def _instant(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%MZ")
