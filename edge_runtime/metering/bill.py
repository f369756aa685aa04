"""Bills: a tariff applied to usage. Pure, and exact: amounts are fractions until they are printed.

Allotments and fees are those of a calendar month (UTC), whatever part of it the usage is from, and are granted to all
of the usage together, as providers grant them to an account. A group's cost is its share of the cost of everything, in
proportion to its quantity; so groups add up to the bill exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final, NamedTuple

from edge_runtime.metering.grouping import Key, key_of, month_of
from edge_runtime.metering.ledger import UsageRow
from edge_runtime.metering.tariff import Meter, Tariff

_ROUNDED_PLACES: Final = 12


@dataclass(frozen=True, slots=True)
class Line:
    """One meter of a bill. `list_cost` is what the quantity costs from its first unit on, without allotment."""

    meter: str
    unit: str
    quantity: Fraction
    included: Fraction
    billable: Fraction
    price: Decimal
    per: int
    cost: Fraction
    list_cost: Fraction


@dataclass(frozen=True, slots=True)
class GroupBill:
    """The share of one group; `key` has one value for each name of `Bill.group_by`."""

    key: Key
    quantities: Mapping[str, Fraction]
    """By meter."""
    cost: Fraction
    list_cost: Fraction


@dataclass(frozen=True, slots=True)
class Bill:
    """`cost` is the lines' and the fee; `list_cost` the lines' without allotments and without a fee."""

    tariff: Tariff
    lines: tuple[Line, ...]
    months: tuple[str, ...]
    """Calendar months with usage, such as "2026-11"."""
    fee: Fraction
    group_by: tuple[str, ...]
    groups: tuple[GroupBill, ...]

    @property
    def cost(self) -> Fraction:
        return sum((line.cost for line in self.lines), self.fee)

    @property
    def list_cost(self) -> Fraction:
        return sum((line.list_cost for line in self.lines), Fraction(0))


def make_bill(tariff: Tariff, usage: Iterable[UsageRow], group_by: Sequence[str] = ()) -> Bill:
    """What `usage` costs by `tariff`; `group_by` names keys of GROUPINGS. Groups are ordered by their keys."""
    rows = list(usage)
    months = tuple(sorted({month_of(row) for row in rows}))
    lines: list[Line] = []
    groups: dict[Key, _Share] = {}
    for meter in tariff.meters:
        metered = [
            _Metered(month_of(row), key_of(row, group_by), quantity)
            for row in rows
            if (quantity := _quantity(meter, row))
        ]
        lines.append(_line(meter, months, metered))
        if group_by:
            _share(meter, metered, groups)
    return Bill(
        tariff=tariff,
        lines=tuple(lines),
        months=months,
        fee=Fraction(tariff.monthly_fee) * len(months),
        group_by=tuple(group_by),
        groups=tuple(
            GroupBill(key, share.quantities, share.cost, share.list_cost) for key, share in sorted(groups.items())
        ),
    )


class _Metered(NamedTuple):
    """What one row of the ledger adds to a meter."""

    month: str
    key: Key
    quantity: Fraction


class _Share:
    def __init__(self) -> None:
        self.quantities: dict[str, Fraction] = {}
        self.cost = Fraction(0)
        self.list_cost = Fraction(0)


def _quantity(meter: Meter, row: UsageRow) -> Fraction:
    return sum(
        (
            _counted(row, count.quantity) * Fraction(count.factor)
            for count in meter.counts
            if count.covers(row.product, row.kind, row.name)
        ),
        Fraction(0),
    )


def _counted(row: UsageRow, quantity: str) -> int:
    match quantity:
        case "events":
            return row.events
        case "cpu_us":
            return row.cpu_us
        case "wall_us":
            return round(row.wall_ms * 1000)
        case _:
            return row.quantities.get(quantity, 0)


def _totals(metered: Iterable[_Metered]) -> dict[str, Fraction]:
    """By month."""
    totals: dict[str, Fraction] = {}
    for part in metered:
        totals[part.month] = totals.get(part.month, Fraction(0)) + part.quantity
    return totals


def _line(meter: Meter, months: Sequence[str], metered: Sequence[_Metered]) -> Line:
    totals = _totals(metered)
    included = Fraction(meter.included)
    billable = sum((max(total - included, Fraction(0)) for total in totals.values()), Fraction(0))
    quantity = sum(totals.values(), Fraction(0))
    unit_price = Fraction(meter.price) / meter.per
    return Line(
        meter=meter.name,
        unit=meter.unit,
        quantity=quantity,
        included=included * len(months),
        billable=billable,
        price=meter.price,
        per=meter.per,
        cost=billable * unit_price,
        list_cost=quantity * unit_price,
    )


def _share(meter: Meter, metered: Sequence[_Metered], groups: dict[Key, _Share]) -> None:
    totals = _totals(metered)
    unit_price = Fraction(meter.price) / meter.per
    for part in metered:
        share = groups.setdefault(part.key, _Share())
        total = totals[part.month]
        billable = max(total - Fraction(meter.included), Fraction(0))
        share.quantities[meter.name] = share.quantities.get(meter.name, Fraction(0)) + part.quantity
        share.cost += billable * unit_price * part.quantity / total
        share.list_cost += part.quantity * unit_price


def decimal_text(value: Fraction) -> str:
    """The value in decimal notation: exact where it has an end, otherwise rounded to 12 places."""
    denominator = value.denominator
    for prime in (2, 5):
        while denominator % prime == 0:
            denominator //= prime
    places = _ROUNDED_PLACES
    if denominator == 1:
        places = 0
        while (value * 10**places).denominator != 1:
            places += 1
    return _fixed(value, places)


def money_text(value: Fraction) -> str:
    """An amount for people: whole cents where it is so, else as many places as show four digits, at most 12."""
    if (value * 100).denominator == 1:
        return _fixed(value, 2)
    places = 4
    while places < _ROUNDED_PLACES and abs(value) * 10**places < 1000:
        places += 1
    text = _fixed(value, places).rstrip("0")
    return text if len(text.partition(".")[2]) >= 2 else f"{text}00"[: text.index(".") + 3]


def _fixed(value: Fraction, places: int) -> str:
    """Rounded half to even at `places`."""
    scaled = round(value * 10**places)
    sign, digits = ("-" if scaled < 0 else ""), str(abs(scaled)).rjust(places + 1, "0")
    return f"{sign}{digits[:-places]}.{digits[-places:]}" if places else f"{sign}{digits}"


def bill_document(bill: Bill) -> dict[str, Any]:
    """The bill as plain data for JSON; amounts and quantities are decimal strings, so that nothing is lost."""
    tariff = bill.tariff
    return {
        "tariff": tariff.name,
        "title": tariff.title,
        "source": tariff.source,
        "date": tariff.date.isoformat(),
        "currency": tariff.currency,
        "months": list(bill.months),
        "fee": decimal_text(bill.fee),
        "cost": decimal_text(bill.cost),
        "list_cost": decimal_text(bill.list_cost),
        "lines": [
            {
                "meter": line.meter,
                "unit": line.unit,
                "quantity": decimal_text(line.quantity),
                "included": decimal_text(line.included),
                "billable": decimal_text(line.billable),
                "price": str(line.price),
                "per": line.per,
                "cost": decimal_text(line.cost),
                "list_cost": decimal_text(line.list_cost),
            }
            for line in bill.lines
        ],
        "groups": [
            {
                **dict(zip(bill.group_by, group.key, strict=True)),
                "quantities": {meter: decimal_text(quantity) for meter, quantity in group.quantities.items()},
                "cost": decimal_text(group.cost),
                "list_cost": decimal_text(group.list_cost),
            }
            for group in bill.groups
        ],
        "notes": list(tariff.notes),
    }
