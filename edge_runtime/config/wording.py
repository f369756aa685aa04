"""Words for values and types in configuration errors: what was found, what is allowed, which name was meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable
from decimal import Decimal

from edge_runtime.config.model import Secret

_SHOWN_MAX = 60
_NAMES_MAX = 12

_TYPE_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "decimal": "a number",
    "str": "a string",
    "bool": "true or false",
    "null": "null",
    "array": "a list",
    "object": "a table of keys",
    "datetime": "a date and time",
    "date": "a date",
    "any": "anything",
}
_BOUND = re.compile(r"^`(?P<types>[^`]+)`(?: (?P<rest>.+))?$")


def shown(value: object) -> str:
    """Name a configuration value for an error: short, its type evident, secrets hidden."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case Secret():
            return "a secret"
        case str():
            return f"the string {quoted(value)}"
        case int() | float():
            return f"the number {_cut(_number(value))}"
        case Decimal():
            return f"the number {_cut(str(value))}"
        case list() | tuple():
            return f"a list of {len(value)}" if value else "an empty list"
        case dict():
            return f"a table with {names(map(str, value))}" if value else "an empty table"
        case _:
            return f"{_cut(str(value))} ({type(value).__name__})"


def quoted(text: str) -> str:
    """The text in double quotes on one line, cut when long."""
    body = _cut(text).encode("unicode_escape").decode("ascii") if not text.isprintable() else _cut(text)
    return f'"{body}"'


def names(items: Iterable[str]) -> str:
    """A list of names in quotes, cut after a dozen."""
    found = list(items)
    listed = ", ".join(quoted(name) for name in found[:_NAMES_MAX])
    return f"{listed} and {len(found) - _NAMES_MAX} more" if len(found) > _NAMES_MAX else listed


def nearest(name: str, known: Collection[str]) -> str | None:
    """The known name that `name` was probably meant to be; None when nothing is near."""
    folded = {other.lower().replace("-", "_"): other for other in known}
    close = difflib.get_close_matches(name[:200].lower().replace("-", "_"), list(folded), n=1, cutoff=0.6)
    return folded[close[0]] if close else None


def expectation(text: str) -> str:
    """Say in words what msgspec expected: "`int | str` >= 1" becomes "a whole number >= 1 or a string"."""
    match = _BOUND.match(text)
    if match is None:
        return text
    types = match["types"].split(" | ")
    # An optional value may be left out, which says more than that null is taken for it.
    words = [_TYPE_WORDS.get(part, part) for part in types if part != "null" or len(types) == 1]
    if match["rest"] is not None:
        words[0] = f"{words[0]} {match['rest']}"
    return ", ".join(words[:-1]) + " or " + words[-1] if len(words) > 1 else words[0]


def _number(value: int | float) -> str:
    # Python refuses to print integers above a few thousand digits.
    if isinstance(value, int) and value.bit_length() > 4 * _SHOWN_MAX:
        return f"of {value.bit_length()} bits"
    return repr(value)


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_MAX else text[: _SHOWN_MAX - 3] + "..."
