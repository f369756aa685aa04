"""Cron expressions in Cloudflare's dialect, evaluated in UTC. Pure: no clock.

Five fields: minute, hour, day of the month, month, day of the week. Weekdays are 1-7 from Sunday to Saturday. When both
day fields are restricted, a day matches if either does, and `*/2` counts as restricted. Ranges may wrap around
(`22-2`, `SAT-SUN`). The forms with L, W and # stand alone in their field.

Source: cloudflare/saffron, the parser behind Cron Triggers. Where its evaluation departs from its own documented
meaning (a wrapped range includes the value before its start; `31W` fires in months of 30 days), the meaning is
followed here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import MAXYEAR, date
from typing import Final

from edge_runtime.config.cron_days import (
    Days,
    LastDay,
    LastWeekday,
    MonthDayRule,
    NearestWeekday,
    NthWeekday,
    WeekdayRule,
    Weekdays,
    days_in,
)

_MINUTE_MS: Final = 60_000
_DAY_MINUTES: Final = 24 * 60
_EPOCH: Final = date(1970, 1, 1).toordinal()
_MONTH_LENGTHS: Final = (0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_GREGORIAN_CYCLE_YEARS: Final = 400


class CronError(ValueError):
    """Text that is no cron expression. `position` is the offset of the wrong part, from 0."""

    def __init__(self, text: str, position: int, found: str, allowed: str) -> None:
        self.text, self.position, self.found, self.allowed = text, position, found, allowed
        super().__init__(
            f'cron expression "{text[:80]}", character {position + 1}: found {found[:40]}; allowed: {allowed}'
        )


@dataclass(frozen=True, slots=True)
class CronExpression:
    """A parsed expression. `text` is as written, which is what a handler sees as `controller.cron`."""

    text: str
    minutes: int
    hours: int
    months: int
    """Bits 0-59, 0-23 and 1-12."""
    month_days: MonthDayRule | None
    weekdays: WeekdayRule | None
    """None: any day (`*`)."""

    def matches_ms(self, ms: int) -> bool:
        """Whether the minute that contains this time (milliseconds since the epoch) matches."""
        days, minute = divmod(ms // _MINUTE_MS, _DAY_MINUTES)
        try:
            day = date.fromordinal(_EPOCH + days)
        except (ValueError, OverflowError):
            return False
        return bool(
            self.hours >> minute // 60 & 1
            and self.minutes >> minute % 60 & 1
            and self._days_of(day.year, day.month) >> day.day & 1
        )

    def next_after_ms(self, ms: int) -> int | None:
        """The first matching minute that begins after this time; None if there is none before the year 10000."""
        days, minute = divmod(ms // _MINUTE_MS + 1, _DAY_MINUTES)
        try:
            day = date.fromordinal(_EPOCH + days)
        except (ValueError, OverflowError):
            if days > 0:
                return None
            day, minute = date.min, 0
        if self._days_of(day.year, day.month) >> day.day & 1:
            at = self._next_minute(minute)
            if at is not None:
                return ((day.toordinal() - _EPOCH) * _DAY_MINUTES + at) * _MINUTE_MS
        first = self._next_minute(0)
        found = self._next_day(day)
        if found is None or first is None:
            return None
        return ((found.toordinal() - _EPOCH) * _DAY_MINUTES + first) * _MINUTE_MS

    def _next_minute(self, minute: int) -> int | None:
        """The first matching minute of a day at or after `minute`."""
        hour, past = divmod(minute, 60)
        if self.hours >> hour & 1:
            at = _next_bit(self.minutes, past)
            if at is not None:
                return hour * 60 + at
        later = _next_bit(self.hours, hour + 1)
        first = _next_bit(self.minutes, 0)
        return None if later is None or first is None else later * 60 + first

    def _next_day(self, after: date) -> date | None:
        """The first matching day after `after`. One round of the calendar (400 years) is enough to look at."""
        year, month, past = after.year, after.month, after.day
        last_year = min(year + _GREGORIAN_CYCLE_YEARS, MAXYEAR)
        while year <= last_year:
            found = _next_bit(self._days_of(year, month), past + 1)
            if found is not None:
                return date(year, month, found)
            past = 0
            next_month = _next_bit(self.months, month + 1)
            if next_month is None:
                if year == after.year and not self.ever:
                    return None
                year += 1
                next_month = _next_bit(self.months, 1)
                assert next_month is not None, "a field matches at least one value"
            month = next_month
        return None

    def _days_of(self, year: int, month: int) -> int:
        if not self.months >> month & 1:
            return 0
        length = 29 if month == 2 and _is_leap(year) else _MONTH_LENGTHS[month]
        return days_in(self.month_days, self.weekdays, date(year, month, 1).isoweekday() % 7, length)

    @property
    def ever(self) -> bool:
        """Whether any day at all matches: false for `0 0 30 2 *`."""
        lengths = {
            length
            for month in range(1, 13)
            if self.months >> month & 1
            for length in ((28, 29) if month == 2 else (_MONTH_LENGTHS[month],))
        }
        return any(days_in(self.month_days, self.weekdays, first, length) for length in lengths for first in range(7))


def _next_bit(mask: int, at_least: int) -> int | None:
    above = mask >> at_least
    return at_least + (above & -above).bit_length() - 1 if above else None


def _is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


@dataclass(frozen=True, slots=True)
class _Field:
    title: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    note: str = ""
    alone: str = ""
    """Forms that fill the field, without a list."""

    @property
    def allowed(self) -> str:
        named = f" or {self.names[0]}-{self.names[-1]}" if self.names else ""
        alone = f"; or alone {self.alone}" if self.alone else ""
        return f"{self.title} {self.low}-{self.high}{self.note}{named} with * , - /{alone}"


_WEEKDAY_NAMES: Final = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_MONTH_NAMES: Final = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_FIELDS: Final = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of the month", 1, 31, alone="L, L-3, LW, L-3W, 15W"),
    _Field("month", 1, 12, _MONTH_NAMES),
    _Field("day of the week", 1, 7, _WEEKDAY_NAMES, " (1 is Sunday, 7 Saturday)", "L, 6L, friL, 2#1"),
)
_ITEM: Final = re.compile(
    r"(?:\*|(?P<low>[0-9]+|[A-Z]+)(?:(?P<dash>-)(?P<high>[0-9]+|[A-Z]+))?)(?:/(?P<step>[0-9]+))?", re.I | re.A
)
_LAST_DAY: Final = re.compile(r"L(?:-(?P<offset>[0-9]{1,3}))?(?P<weekday>W)?", re.I | re.A)
_NEAREST: Final = re.compile(r"(?P<day>[0-9]{1,3})W", re.I | re.A)
_LAST_WEEKDAY: Final = re.compile(r"(?P<day>[1-7]|[A-Z]{3})L", re.I | re.A)
_NTH_WEEKDAY: Final = re.compile(r"(?P<day>[0-9]{1,3}|[A-Z]+)#(?P<nth>[0-9]{1,3})", re.I | re.A)


def parse(text: str) -> CronExpression:
    """Read an expression.

    Raises:
        CronError: a ValueError that says at which character, what was found and what is allowed.
    """
    parts = [(match.group(), match.start()) for match in re.finditer(r"[^ \t]+", text)]
    if len(parts) != len(_FIELDS):
        raise CronError(
            text,
            parts[len(_FIELDS)][1] if len(parts) > len(_FIELDS) else len(text),
            f"{len(parts)} fields",
            "5 fields: minute, hour, day of the month, month, day of the week",
        )
    masks = [_Reader(text, field) for field in _FIELDS]
    return CronExpression(
        text=text,
        minutes=masks[0].mask(*parts[0]),
        hours=masks[1].mask(*parts[1]),
        months=masks[3].mask(*parts[3]),
        month_days=None if parts[2][0] == "*" else masks[2].month_days(*parts[2]),
        weekdays=None if parts[4][0] == "*" else masks[4].weekdays(*parts[4]),
    )


class _Reader:
    """Reads one field of `text`; knows where it is for errors."""

    def __init__(self, text: str, field: _Field) -> None:
        self._text, self._field = text, field

    def mask(self, part: str, start: int) -> int:
        """The values of a list, as bits."""
        if part == "*":
            return self._bits(self._field.low, self._field.high, 1)
        found = 0
        for item in part.split(","):
            found |= self._item(item, start)
            start += len(item) + 1
        return found

    def month_days(self, part: str, start: int) -> MonthDayRule:
        if match := _LAST_DAY.fullmatch(part):
            offset = int(match["offset"] or 0)
            if match["offset"] is not None and not 1 <= offset <= 30:
                raise CronError(self._text, start + 2, match["offset"], "an offset from 1 to 30")
            return LastDay(offset, match["weekday"] is not None)
        if match := _NEAREST.fullmatch(part):
            return NearestWeekday(self._value(match["day"], start))
        return Days(self.mask(part, start))

    def weekdays(self, part: str, start: int) -> WeekdayRule:
        if part.upper() == "L":
            return Weekdays(1 << 6)
        if match := _LAST_WEEKDAY.fullmatch(part):
            return LastWeekday(self._value(match["day"], start) - 1)
        if match := _NTH_WEEKDAY.fullmatch(part):
            nth = int(match["nth"])
            if not 1 <= nth <= 5:
                raise CronError(self._text, start + match.start("nth"), match["nth"], "an n-th weekday from 1 to 5")
            return NthWeekday(self._value(match["day"], start) - 1, nth)
        return Weekdays(self.mask(part, start) >> 1)

    def _item(self, item: str, start: int) -> int:
        field = self._field
        match = _ITEM.fullmatch(item)
        if match is None or item == "*":
            raise CronError(self._text, start, f'"{item}"' if item else "nothing", field.allowed)
        if match["low"] is None:
            low, high = field.low, field.high
        else:
            low = self._value(match["low"], start)
            high = low if match["step"] is None else field.high
            if match["dash"]:
                high = self._value(match["high"], start + match.start("high"))
        step = 1
        if match["step"] is not None:
            step = int(match["step"]) if len(match["step"]) < 9 else 0
            if not 1 <= step <= field.high - field.low:
                at = start + match.start("step")
                raise CronError(self._text, at, match["step"], f"a step from 1 to {field.high - field.low}")
        return self._bits(low, high, step)

    def _bits(self, low: int, high: int, step: int) -> int:
        field = self._field
        count = field.high - field.low + 1
        span = (high - low) % count
        return sum(1 << (low - field.low + ahead) % count + field.low for ahead in range(0, span + 1, step))

    def _value(self, word: str, start: int) -> int:
        field = self._field
        if word.upper() in field.names:
            return field.names.index(word.upper()) + field.low
        value = int(word) if word.isdigit() and len(word) < 9 else -1
        if not field.low <= value <= field.high:
            raise CronError(self._text, start, f'"{word}"', field.allowed)
        return value
