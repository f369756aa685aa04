from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from croniter import croniter
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.config.cron import CronError, parse


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1000


def following(expression: str, start: str, count: int) -> list[str]:
    cron, at, found = parse(expression), ms(start), []
    for _ in range(count):
        after = cron.next_after_ms(at)
        if after is None:
            return [*found, "never"]
        assert cron.matches_ms(after)
        found.append(datetime.fromtimestamp(after / 1000, UTC).strftime("%Y-%m-%d %H:%M"))
        at = after
    return found


@pytest.mark.parametrize(
    ("expression", "start", "expected"),
    [
        ("*/1 * * * *", "2026-01-01 00:00", ["2026-01-01 00:01", "2026-01-01 00:02"]),
        ("59 23 31 12 *", "2026-12-31 23:59", ["2027-12-31 23:59"]),
        ("0 17 * * 1", "2026-01-01", ["2026-01-04 17:00", "2026-01-11 17:00"]),
        ("0 17 * * sun", "2026-01-01", ["2026-01-04 17:00"]),
        ("0 0 * * 7", "2026-01-01", ["2026-01-03 00:00"]),
        ("0 0 * * L", "2026-01-01", ["2026-01-03 00:00", "2026-01-10 00:00"]),
        ("0 0 * * 6L", "2026-01-01", ["2026-01-30 00:00", "2026-02-27 00:00"]),
        ("0 0 * * friL", "2026-01-01", ["2026-01-30 00:00"]),
        ("0 0 * * MON#1", "2026-01-01", ["2026-01-05 00:00", "2026-02-02 00:00"]),
        ("0 0 * * SAT#5", "2020-01-01", ["2020-02-29 00:00", "2020-05-30 00:00", "2020-08-29 00:00"]),
        ("0 0 L * *", "2024-01-31 12:00", ["2024-02-29 00:00", "2024-03-31 00:00"]),
        ("0 0 L-3 2 *", "2024-01-01", ["2024-02-26 00:00", "2025-02-25 00:00"]),
        ("0 0 LW 5 *", "2019-06-01", ["2020-05-29 00:00", "2021-05-31 00:00"]),
        ("0 0 15W * *", "2026-02-01", ["2026-02-16 00:00", "2026-03-16 00:00", "2026-04-15 00:00"]),
        ("0 0 1W 5 *", "2020-01-01", ["2020-05-01 00:00", "2021-05-03 00:00", "2022-05-02 00:00"]),
        ("0 0 31W * *", "2026-05-01", ["2026-05-29 00:00", "2026-07-31 00:00"]),
        ("0 0 L-28W 2 *", "1972-01-01", ["1972-02-01 00:00", "1976-02-02 00:00", "1980-02-01 00:00"]),
        ("0 20-4/2 1 1 *", "2026-01-01 03:00", ["2026-01-01 04:00", "2026-01-01 20:00", "2026-01-01 22:00"]),
        ("50-10/10 0 1 1 *", "2025-12-31", ["2026-01-01 00:00", "2026-01-01 00:10", "2026-01-01 00:50"]),
        ("0 0 * 1 SAT-SUN", "2026-01-01", ["2026-01-03 00:00", "2026-01-04 00:00", "2026-01-10 00:00"]),
        ("0 0 1 NOV-FEB *", "2026-01-15", ["2026-02-01 00:00", "2026-11-01 00:00"]),
        ("10/20 * * * *", "2026-01-01", ["2026-01-01 00:10", "2026-01-01 00:30", "2026-01-01 00:50"]),
        ("*/15,30-59/10 0 * * *", "2026-01-01 00:15", ["2026-01-01 00:30", "2026-01-01 00:40", "2026-01-01 00:45"]),
        # Both day fields restricted: either suffices, and a step restricts.
        ("0 0 13 * FRI", "2026-02-01", ["2026-02-06 00:00", "2026-02-13 00:00", "2026-02-20 00:00"]),
        ("0 0 */10 * MON", "2026-01-02", ["2026-01-05 00:00", "2026-01-11 00:00", "2026-01-12 00:00"]),
        ("0 0 29 2 *", "2096-03-01", ["2104-02-29 00:00"]),
        ("0 0 * 2 SUN#5", "2090-01-01", ["2128-02-29 00:00"]),
        ("0 0 30 2 *", "2026-01-01", ["never"]),
        ("0 0 31 4,6,9,11 *", "2026-01-01", ["never"]),
        ("0 0 L-30 2 *", "2026-01-01", ["never"]),
        ("0 0 1 1 *", "9999-06-01", ["never"]),
        ("0 0 1 1 *", "1900-06-01", ["1901-01-01 00:00"]),
    ],
)
def test_cron_fires_at(expression: str, start: str, expected: list[str]) -> None:
    assert following(expression, start, len(expected)) == expected


def test_next_is_strictly_later_and_begins_a_minute() -> None:
    cron = parse("* * * * *")
    assert cron.next_after_ms(60_000) == 120_000
    assert cron.next_after_ms(59_999) == 60_000
    assert cron.next_after_ms(-1) == 0
    assert cron.matches_ms(119_999)


def test_times_outside_of_the_calendar_neither_match_nor_fail() -> None:
    cron = parse("0 0 1 1 *")
    assert cron.next_after_ms(10**30) is None
    assert not cron.matches_ms(10**30)
    assert not cron.matches_ms(-(10**30))
    assert cron.next_after_ms(-(10**30)) == (date(1, 1, 1) - date(1970, 1, 1)).days * 86_400_000


@pytest.mark.parametrize(
    ("expression", "position", "allowed"),
    [
        ("", 0, "5 fields"),
        ("* * * *", 7, "5 fields"),
        ("* * * * * *", 10, "5 fields"),
        ("@daily", 6, "5 fields"),
        ("60 * * * *", 0, "minute 0-59"),
        ("0 24 * * *", 2, "hour 0-23"),
        ("0 0 0 * *", 4, "day of the month 1-31"),
        ("0 0 32 * *", 4, "day of the month 1-31"),
        ("0 0 * 13 *", 6, "month 1-12 or JAN-DEC"),
        ("0 0 * * 0", 8, "day of the week 1-7 (1 is Sunday, 7 Saturday)"),
        ("0 0 * * 8", 8, "day of the week 1-7"),
        ("0 0 * * SUNDAY", 8, "day of the week"),
        ("0 0 * SUN *", 6, "month"),
        ("1,2,x * * * *", 4, "minute"),
        ("1,,2 * * * *", 2, "minute"),
        ("1,* * * * *", 2, "minute"),
        ("5- * * * *", 0, "minute"),
        ("*/0 * * * *", 2, "a step from 1 to 59"),
        ("*/60 * * * *", 2, "a step from 1 to 59"),
        ("0 0 */31 * *", 6, "a step from 1 to 30"),
        ("0 0 L-31 * *", 6, "an offset from 1 to 30"),
        ("0 0 15W,3 * *", 4, "day of the month"),
        ("0 0 L,3 * *", 4, "day of the month"),
        ("0 0 * * 2#6", 10, "an n-th weekday from 1 to 5"),
        ("0 0 * * 9L", 8, "day of the week"),
        ("0 0 * * 6L,2", 8, "day of the week"),
        ("² * * * *", 0, "minute"),
        ("0 0 * * \u017fun", 8, "day of the week"),
    ],
)
def test_wrong_cron_is_refused_with_its_place(expression: str, position: int, allowed: str) -> None:
    with pytest.raises(CronError) as caught:
        parse(expression)
    assert caught.value.position == position
    assert caught.value.allowed.startswith(allowed)


@settings(deadline=None)
@given(st.text(alphabet="0123456789*,-/LW#lwSUNFRIjan \t²", max_size=40))
def test_any_text_parses_or_is_refused(text: str) -> None:
    try:
        cron = parse(text)
    except CronError as error:
        assert error.position in range(len(text) + 1)  # noqa: PT017
    else:
        after = cron.next_after_ms(0)
        assert (after is not None) == cron.ever
        assert after is None or cron.matches_ms(after)


def items(low: int, high: int) -> st.SearchStrategy[str]:
    """Lists that all dialects read alike: no wrapped ranges, no bare start with a step."""
    value = st.integers(low, high)
    span = st.lists(value, min_size=2, max_size=2, unique=True).map(lambda pair: f"{min(pair)}-{max(pair)}")
    step = st.integers(1, high - low)
    item = st.one_of(value.map(str), span, st.builds("*/{}".format, step), st.builds("{}/{}".format, span, step))
    return st.one_of(st.just("*"), st.lists(item, min_size=1, max_size=3).map(",".join))


WEEKDAY = st.one_of(
    st.just("*"),
    st.lists(st.integers(1, 7), min_size=1, max_size=3, unique=True).map(lambda days: ",".join(map(str, days))),
)
MOMENT = st.datetimes(datetime(1990, 1, 1), datetime(2080, 1, 1))


def to_posix(weekdays: str) -> str:
    return weekdays if weekdays == "*" else ",".join(str(int(day) - 1) for day in weekdays.split(","))


@settings(deadline=None)
@given(items(0, 59), items(0, 23), items(1, 31), items(1, 12), WEEKDAY, MOMENT)
def test_agrees_with_cronsim(minutes: str, hours: str, days: str, months: str, weekdays: str, start: datetime) -> None:
    # A star with a step restricts the field here, but not there.
    posix_days = "1-31" + days[1:] if days.startswith("*/") and weekdays != "*" else days
    expected = None
    posix = f"{minutes} {hours} {posix_days} {months} {to_posix(weekdays)}"
    try:
        expected = next(CronSim(posix, start.replace(microsecond=0)))
    except StopIteration:
        pass
    found = parse(f"{minutes} {hours} {days} {months} {weekdays}").next_after_ms(ms(start.isoformat()))
    if expected is None:
        # cronsim gives up after 50 years.
        assert found is None or found > ms((start + timedelta(days=49 * 365)).isoformat())
    else:
        assert found == ms(expected.isoformat())


@settings(deadline=None)
@given(
    items(0, 59), items(0, 23), st.one_of(st.just("*"), st.just("L"), st.integers(1, 28).map(str)), items(1, 12), MOMENT
)
def test_agrees_with_croniter(minutes: str, hours: str, days: str, months: str, start: datetime) -> None:
    expression = f"{minutes} {hours} {days} {months} *"
    expected = croniter(expression, start).get_next(datetime)
    assert parse(expression).next_after_ms(ms(start.replace(microsecond=0).isoformat())) == ms(expected.isoformat())


@settings(deadline=None)
@given(st.integers(1, 31), st.integers(1, 12), MOMENT)
def test_nearest_weekday_stays_in_its_month_and_near(day: int, month: int, start: datetime) -> None:
    after = parse(f"0 0 {day}W {month} *").next_after_ms(ms(start.isoformat()))
    if after is None:
        assert day > [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month - 1]
        return
    found = datetime.fromtimestamp(after / 1000, UTC)
    assert found.month == month
    assert found.weekday() < 5
    assert abs(found.day - day) <= (1 if 1 < day < 28 else 2)


@settings(deadline=None)
@given(st.integers(0, 4 * 10**12), items(0, 59), items(0, 23), WEEKDAY)
def test_no_match_is_skipped(start: int, minutes: str, hours: str, weekdays: str) -> None:
    cron = parse(f"{minutes} {hours} * * {weekdays}")
    after = cron.next_after_ms(start)
    assert after is not None
    between = range((start // 60_000 + 1) * 60_000, after, 60_000)
    assert not any(cron.matches_ms(at) for at in between[:2000])
