"""Which days of a month a cron expression's two day fields mean. Pure.

A month is known by its length and the weekday of its first day (0 is Sunday): there are 28 different ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import assert_never


@dataclass(frozen=True, slots=True)
class Days:
    """Days of the month, as bits 1 to 31."""

    mask: int


@dataclass(frozen=True, slots=True)
class LastDay:
    """`L`, `L-3`, and with `nearest_weekday` `LW`, `L-3W`: counted back from the last day of the month."""

    offset: int
    nearest_weekday: bool


@dataclass(frozen=True, slots=True)
class NearestWeekday:
    """`15W`: the day from Monday to Friday that is nearest to a day, within its month; none if there is no such day."""

    day: int


@dataclass(frozen=True, slots=True)
class Weekdays:
    """Days of the week, as bits 0 (Sunday) to 6."""

    mask: int


@dataclass(frozen=True, slots=True)
class LastWeekday:
    """`6L`, `friL`: the last such weekday of the month."""

    weekday: int


@dataclass(frozen=True, slots=True)
class NthWeekday:
    """`2#1`: the n-th such weekday of the month."""

    weekday: int
    nth: int


MonthDayRule = Days | LastDay | NearestWeekday
WeekdayRule = Weekdays | LastWeekday | NthWeekday


@lru_cache(maxsize=4096)
def days_in(month_days: MonthDayRule | None, weekdays: WeekdayRule | None, first: int, length: int) -> int:
    """The matching days, as bits 1 to 31, of a month of `length` days whose first is the weekday `first`."""
    if month_days is None and weekdays is None:
        return (2 << length) - 2
    found = 0
    if month_days is not None:
        found |= _by_month_day(month_days, first, length)
    if weekdays is not None:
        found |= _by_weekday(weekdays, first, length)
    return found


def _by_month_day(rule: MonthDayRule, first: int, length: int) -> int:
    match rule:
        case Days(mask):
            return mask & (2 << length) - 2
        case LastDay(offset, nearest_weekday):
            day = length - offset
            if day < 1:
                return 0
            return 1 << (_nearest_weekday(day, first, length) if nearest_weekday else day)
        case NearestWeekday(day):
            return 1 << _nearest_weekday(day, first, length) if day <= length else 0
        case _:
            assert_never(rule)


def _by_weekday(rule: WeekdayRule, first: int, length: int) -> int:
    match rule:
        case Weekdays(mask):
            return sum(1 << day for day in range(1, length + 1) if mask >> (first + day - 1) % 7 & 1)
        case LastWeekday(weekday):
            return 1 << max(range((weekday - first) % 7 + 1, length + 1, 7))
        case NthWeekday(weekday, nth):
            day = (weekday - first) % 7 + 1 + 7 * (nth - 1)
            return 1 << day if day <= length else 0
        case _:
            assert_never(rule)


def _nearest_weekday(day: int, first: int, length: int) -> int:
    weekday = (first + day - 1) % 7
    if weekday == 6:
        return day - 1 if day > 1 else day + 2
    if weekday == 0:
        return day + 1 if day < length else day - 2
    return day
