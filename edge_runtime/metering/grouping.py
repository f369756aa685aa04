"""Usage by what the ledger knows of it: who used it, in what, when."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from edge_runtime.metering.ledger import HOUR_MS, UsageRow

Key = tuple[str, ...]


def _time_text(format: str) -> Callable[[UsageRow], str]:
    return lambda row: datetime.fromtimestamp(row.hour_ms / 1000, UTC).strftime(format)


month_of: Final = _time_text("%Y-%m")
"""The calendar month (UTC) of a row, such as "2026-11"."""

GROUPINGS: Final[Mapping[str, Callable[[UsageRow], str]]] = {
    "worker": lambda row: row.worker,
    "version": lambda row: row.version,
    "product": lambda row: row.product,
    "kind": lambda row: row.kind,
    "owner": lambda row: row.owner,
    "handler": lambda row: row.name,
    "hour": _time_text("%Y-%m-%dT%H:00Z"),
    "day": _time_text("%Y-%m-%d"),
    "month": month_of,
}
"""What usage can be grouped by; `owner` is the class of an object, the name of a workflow."""


def key_of(row: UsageRow, group_by: Sequence[str]) -> Key:
    return tuple(GROUPINGS[name](row) for name in group_by)


def group_rows(rows: Iterable[UsageRow], group_by: Sequence[str]) -> dict[Key, UsageRow]:
    """One row a group (see `sum_rows`), ordered by the groups' keys."""
    groups: dict[Key, list[UsageRow]] = {}
    for row in rows:
        groups.setdefault(key_of(row, group_by), []).append(row)
    return {key: sum_rows(group) for key, group in sorted(groups.items())}


def sum_rows(rows: list[UsageRow]) -> UsageRow:
    """One row over all of them, of which there must be one at least."""
    quantities: dict[str, int] = {}
    errors: dict[str, int] = {}
    for row in rows:
        for into, amounts in ((quantities, row.quantities), (errors, row.errors)):
            for name, amount in amounts.items():
                into[name] = into.get(name, 0) + amount
    return UsageRow(
        worker=_same(row.worker for row in rows),
        version=_same(row.version for row in rows),
        product=_same(row.product for row in rows),
        kind=_same(row.kind for row in rows),
        name=_same(row.name for row in rows),
        hour_ms=min(row.hour_ms for row in rows),
        events=sum(row.events for row in rows),
        cpu_us=sum(row.cpu_us for row in rows),
        wall_ms=sum(row.wall_ms for row in rows),
        quantities=quantities,
        errors=errors,
    )


def month_start_ms(now_ms: int) -> int:
    """The beginning of the calendar month (UTC) of an instant."""
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    return int(now.replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp() * 1000)


def hour_start_ms(at_ms: int) -> int:
    """The ledger knows whole hours: usage since an instant is usage since the beginning of its hour."""
    return at_ms // HOUR_MS * HOUR_MS


def _same(values: Iterable[str]) -> str:
    different = set(values)
    return different.pop() if len(different) == 1 else ""
