"""Values read back equal, with their types; what is not on the list is refused; hostile bytes are corruption."""

from __future__ import annotations

import array
import enum
import math
from collections import OrderedDict, namedtuple
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from ipaddress import ip_address
from typing import Any
from uuid import UUID
from zlib import crc32

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.errors import StoreCorrupt
from edge_runtime.limits import VALUE_DEPTH_MAX
from edge_runtime.store import values
from edge_runtime.store.values import ErrorRecord

OFFSETS = st.builds(timezone, st.timedeltas(timedelta(hours=-23), timedelta(hours=23)))
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**200), 2**200),
    st.floats(allow_nan=False),
    st.text(st.characters(codec=None)),
    st.binary(),
    st.dates(),
    st.datetimes(),
    st.datetimes(timezones=OFFSETS),
    st.uuids(),
    st.decimals(allow_nan=False),
    st.builds(ErrorRecord, st.text(), st.text(), st.text()),
)
KEYS = st.one_of(st.text(st.characters(codec=None)), st.integers(), st.tuples(st.text(), st.integers()), st.uuids())
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(KEYS, inner, max_size=4),
        st.sets(KEYS | st.floats(allow_nan=False), max_size=4),
    ),
    max_leaves=12,
)


def sealed(body: bytes) -> bytes:
    return b"\x01" + crc32(body).to_bytes(4, "big") + body


def is_listed(value: Any) -> bool:
    if isinstance(value, dict):
        return all(is_listed(key) and is_listed(item) for key, item in value.items())
    if isinstance(value, (list, set, tuple, frozenset)):
        return all(map(is_listed, value))
    kinds = (int, float, str, bytes, datetime, date, UUID, Decimal, ErrorRecord)
    return value is None or isinstance(value, (*kinds, cbor2.frozendict))


@given(VALUES)
def test_a_value_reads_back(value: Any) -> None:
    back = values.decode(values.encode(value))
    assert back == value
    assert type(back) is type(value)


@given(st.datetimes() | st.datetimes(timezones=OFFSETS))
def test_a_datetime_keeps_its_offset_or_its_lack_of_one(moment: datetime) -> None:
    back = values.decode(values.encode([moment]))[0]
    assert back == moment
    assert back.utcoffset() == moment.utcoffset()


@pytest.mark.parametrize("microseconds", [1, -1, 999_999, 1_000_001, -3_600_000_001, 60_000_000])
def test_an_offset_of_any_microseconds_is_kept(microseconds: int) -> None:
    moment = datetime(2000, 1, 1, tzinfo=timezone(timedelta(microseconds=microseconds)))
    assert values.decode(values.encode(moment)).utcoffset() == timedelta(microseconds=microseconds)


@given(VALUES, st.data())
def test_a_flipped_bit_never_reads_as_a_value(value: Any, data: st.DataObject) -> None:
    stored = bytearray(values.encode(value))
    bit = data.draw(st.integers(0, len(stored) * 8 - 1))
    stored[bit // 8] ^= 1 << bit % 8
    with pytest.raises(StoreCorrupt):
        values.decode(bytes(stored))


@pytest.mark.parametrize("value", [{}, [], 0, 1, 23, None, "", "a", b"", [{}], {"a": []}, {1: 2}, {1}, [(1, {2: 3})]])
def test_no_flipped_bit_of_a_small_value_reads_as_another_value(value: object) -> None:
    stored = values.encode(value)
    for bit in range(len(stored) * 8):
        flipped = bytearray(stored)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(StoreCorrupt):
            values.decode(bytes(flipped))


@given(st.binary(max_size=40))
def test_random_bytes_are_corruption_or_a_listed_value(body: bytes) -> None:
    with pytest.raises(StoreCorrupt):
        values.decode(body)
    try:
        value = values.decode(sealed(body))
    except StoreCorrupt:
        return
    assert is_listed(value)


@given(VALUES, st.data())
def test_damage_under_a_right_checksum_is_corruption_or_a_listed_value(value: Any, data: st.DataObject) -> None:
    body = bytearray(values.encode(value)[5:])
    bit = data.draw(st.integers(0, len(body) * 8 - 1))
    body[bit // 8] ^= 1 << bit % 8
    try:
        back = values.decode(sealed(bytes(body)))
    except StoreCorrupt:
        return
    assert is_listed(back)


PAYLOADS = [0, -1, 1.5, "2020-01-01", "a+", b"\x01\x02", [1, 2], [-1, 5], {1: 2}, None, True, [[1], 2], ["a", "b", "c"]]


@pytest.mark.parametrize("payload", PAYLOADS)
def test_every_tag_gives_a_listed_value_or_corruption(payload: object) -> None:
    for tag in [*range(1100), *range(43000, 43010), *range(55790, 55810), *range(60000, 60010), 2**32, 2**63]:
        try:
            value = values.decode(sealed(cbor2.dumps(cbor2.CBORTag(tag, payload))))
        except StoreCorrupt:
            continue
        assert is_listed(value), (tag, value)


@pytest.mark.parametrize("extra", [b"\x00", values._END, values._END + b"\x01", cbor2.dumps([1])])
def test_bytes_after_the_end_are_corruption(extra: bytes) -> None:
    for value in (1, "end of value", [b"end of value"]):
        with pytest.raises(StoreCorrupt):
            values.decode(sealed(cbor2.dumps(value) + extra))


def test_the_end_mark_itself_is_a_value_like_others() -> None:
    for value in (b"end of value", [b"end of value", b"end of value"], {b"end of value": b"end of value" * 2}):
        assert values.decode(values.encode(value)) == value


@pytest.mark.parametrize(
    "body", [b"\x5f\x41a\xff", b"\xa2\x01\x02\x01\x03", b"\xf7", b"\xe5", b"\x81\xf7", b"\xf8\x80"]
)
def test_forms_that_values_are_not_written_with_are_corruption(body: bytes) -> None:
    with pytest.raises(StoreCorrupt):
        values.decode(sealed(body))


def test_an_unknown_version_is_named() -> None:
    with pytest.raises(StoreCorrupt, match="format 02"):
        values.decode(b"\x02" + values.encode(1)[1:])


class Text(str):
    pass


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ((1, (2,)), [1, [2]]),
        (Point(1, 2), [1, 2]),
        (OrderedDict(a=Colour.RED), {"a": "red"}),
        ({Colour.RED: [Level.HIGH, Text("t")]}, {"red": [3, "t"]}),
        ({"a": {Level.HIGH}}, {"a": {3}}),
        (frozenset({1}), {1}),
        ([bytearray(b"x"), memoryview(b"abcdef")[::2], array.array("H", [1])], [b"x", b"ace", b"\x01\x00"]),
        ([ValueError("no")], [ErrorRecord("ValueError", "no")]),
        ({frozenset({(1, "a")}): 1}, {frozenset({(1, "a")}): 1}),
        ([datetime(2020, 1, 1, tzinfo=UTC)], [datetime(2020, 1, 1, tzinfo=UTC)]),
    ],
)
def test_relatives_of_listed_types_are_stored_as_those(value: object, stored: object) -> None:
    assert values.decode(values.encode(value)) == stored


def test_subclasses_are_stored_as_their_base() -> None:
    back = values.decode(values.encode([Text("a"), Colour.RED, Level.HIGH, True]))
    assert [type(item) for item in back] == [str, str, int, bool]


@pytest.mark.parametrize("number", ["NaN", "sNaN", "-Infinity", "1E+5000", "-0.00"])
def test_decimals_keep_their_digits(number: str) -> None:
    back = values.decode(values.encode({"d": Decimal(number)}))["d"]
    assert type(back) is Decimal
    assert str(back) == number


def test_floats_keep_zero_sign_and_nan() -> None:
    zero, nan = values.decode(values.encode([-0.0, math.nan]))
    assert math.copysign(1, zero) == -1
    assert math.isnan(nan)


async def work() -> None: ...


UNLISTED = [object(), Fraction(1, 2), ip_address("::1"), 1j, range(3), iter([]), print, int, enum.Enum, cbor2.undefined]


@pytest.mark.parametrize("value", UNLISTED)
def test_other_types_are_refused_with_type_and_place(value: object) -> None:
    with pytest.raises(TypeError, match=rf"type {type(value).__qualname__} at \['a'\]\[3\] cannot be stored"):
        values.encode({"a": [1, 2, 3, value]})
    with pytest.raises(TypeError, match=rf"type {type(value).__qualname__} cannot be stored"):
        values.encode(value)


def test_awaitables_are_refused() -> None:
    pending = work()
    with pytest.raises(TypeError, match="coroutine"):
        values.encode([pending])
    pending.close()


def nested(levels: int, kind: str) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value] if kind == "list" else {"k": value} if kind == "dict" else (value,)
    return value


@pytest.mark.parametrize("kind", ["list", "dict", "tuple"])
def test_nesting_is_bounded(kind: str) -> None:
    deepest = nested(VALUE_DEPTH_MAX, kind)
    assert values.encode(values.decode(values.encode(deepest))) == values.encode(deepest)
    for levels in (VALUE_DEPTH_MAX + 1, 100_000):
        with pytest.raises(ValueError, match="nested deeper than"):
            values.encode(nested(levels, kind))


def test_cycles_are_refused() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    with pytest.raises(ValueError, match="contains itself"):
        values.encode(cycle)


def test_an_error_record_can_carry_the_traceback() -> None:
    try:
        raise KeyError("k")
    except KeyError as error:
        record = ErrorRecord.of(error, with_traceback=True)
    assert record.name == "KeyError"
    assert 'raise KeyError("k")' in record.traceback
    assert values.decode(values.encode(record)) == record
