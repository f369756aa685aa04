from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import pytest

from edge_runtime.config.decode import collecting_warnings, decode, warn
from edge_runtime.config.model import Secret, Where
from edge_runtime.config.wording import shown
from edge_runtime.errors import ConfigError

HERE = Where("wrangler.toml") / "drawers"


class Size(enum.Enum):
    SMALL = "s"
    LARGE = "l"


class Inner(msgspec.Struct, frozen=True, rename={"class_name": "class"}):
    class_name: str
    count: Annotated[int, msgspec.Meta(ge=1, le=5)] = 1
    mode: Literal["fast", "slow"] = "fast"
    size: Size = Size.SMALL


class Outer(msgspec.Struct, frozen=True):
    name: Annotated[str, msgspec.Meta(min_length=1)]
    by_key: dict[str, Inner] = {}
    many: list[Inner] = []
    either: int | str | None = None
    pair: tuple[int, str] | None = None

    def __post_init__(self) -> None:
        if self.name == "bad":
            raise ValueError("any name but bad")


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    name: str


@dataclass
class Plain:
    name: str
    inner: Inner | None = None


@pytest.mark.parametrize(
    ("value", "type", "at", "found", "allowed"),
    [
        ({}, list[Outer], "drawers", "an empty table", "a list"),
        ([{"name": 1}], list[Outer], "drawers[0].name", "the number 1", "a string"),
        ([{"name": ""}], list[Outer], "drawers[0].name", 'the string ""', "a string of length >= 1"),
        ([{}], list[Outer], "drawers[0].name", "nothing in an empty table", 'the key "name" is required'),
        ([{"name": "bad"}], list[Outer], "drawers[0]", 'a table with "name"', "any name but bad"),
        ({"name": "a", "either": 1.5}, Outer, "drawers.either", "the number 1.5", "a whole number or a string"),
        ({"name": "a", "pair": [1, 2]}, Outer, "drawers.pair[1]", "the number 2", "a string"),
        ({"name": "a", "many": [{"class": 1}]}, Outer, "drawers.many[0].class", "the number 1", "a string"),
        (
            {"name": "a", "by_key": {"x": {"class": "c"}, "y": {"class": "c", "count": 6}}},
            Outer, "drawers.by_key.y.count", "the number 6", "a whole number from 1 to 5",
        ),
        (
            {"name": "a", "by_key": {"x": {"class": "c", "mode": "idle"}}},
            Outer, "drawers.by_key.x.mode", 'the string "idle"', 'one of "fast", "slow"',
        ),
        (
            {"name": "a", "many": [{"class": "c", "size": "m"}]},
            Outer, "drawers.many[0].size", 'the string "m"', 'one of "s", "l"',
        ),
        (
            {"nam": "a", "name": "b"},
            Strict, "drawers.nam", 'the unknown key "nam" (did you mean "name"?)', 'the keys "name"',
        ),
        (True, int, "drawers", "true", "a whole number"),
        ("1", int, "drawers", 'the string "1"', "a whole number"),
        (None, str, "drawers", "null", "a string"),
    ],
)  # fmt: skip
def test_wrong_value_is_named_exactly(value: object, type: Any, at: str, found: str, allowed: str) -> None:
    with pytest.raises(ConfigError) as caught:
        decode(value, type, HERE)
    error = caught.value
    assert (error.file, error.at, error.found, error.allowed) == ("wrangler.toml", at, found, allowed)


def test_unknown_keys_are_warned_of_at_any_depth() -> None:
    value = {"name": "a", "nane": 1, "by_key": {"x": {"class": "c", "cuont": 2}}, "many": [{"class": "c", "Mode": 1}]}
    with collecting_warnings() as warnings:
        assert decode(value, Outer, HERE) == Outer("a", {"x": Inner("c")}, [Inner("c")])
        assert decode({"name": "a", "inner": {"class": "c", "zzzzz": 1}}, Plain, HERE) == Plain("a", Inner("c"))
    assert warnings == [
        'wrangler.toml: drawers.nane: unknown key, ignored; did you mean "name"?',
        'wrangler.toml: drawers.by_key.x.cuont: unknown key, ignored; did you mean "count"?',
        'wrangler.toml: drawers.many[0].Mode: unknown key, ignored; did you mean "mode"?',
        'wrangler.toml: drawers.inner.zzzzz: unknown key, ignored; known here: "class", "count", "mode", "size"',
    ]


def test_warnings_without_a_collector_are_dropped() -> None:
    assert decode({"name": "a", "extra": 1}, Outer, HERE) == Outer("a")
    warn(HERE, "nobody listens")


def test_long_values_and_secrets_are_not_shown() -> None:
    assert shown("x" * 100) == f'the string "{"x" * 57}..."'
    assert shown("a\nb") == 'the string "a\\nb"'
    assert shown(Secret("key")) == "a secret"
    assert shown(1 << 5000) == "the number of 5001 bits"
    assert shown({str(number): 1 for number in range(14)}).endswith('"11" and 2 more')
