"""Durations as Cloudflare writes them: "10 seconds", "1 hour"; a bare number is milliseconds. Pure.

Source: cloudflare/workers-sdk, workflows-shared (its duration strings have months of 30 and years of 365 days).
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Final

_UNIT_MS: Final = {
    "second": 1000,
    "minute": 60_000,
    "hour": 3_600_000,
    "day": 86_400_000,
    "week": 7 * 86_400_000,
    "month": 30 * 86_400_000,
    "year": 365 * 86_400_000,
}
_TEXT: Final = re.compile(r"\s*(?P<number>[0-9]{1,18}(?:\.[0-9]{1,18})?)\s*(?:(?P<unit>[a-z]+?)s?)?\s*", re.IGNORECASE)
_ALLOWED: Final = 'a number of milliseconds, or text such as "10 seconds": a number and one of ' + ", ".join(_UNIT_MS)
_MAX_MS: Final = 2**53


def parse_duration_ms(value: object) -> int:
    """Read a duration, in milliseconds, rounded up to a whole one.

    Raises:
        TypeError: neither text nor a number.
        ValueError: text of another form, or a number that is negative, not finite or above 2**53.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError(f"duration: found {type(value).__name__}; allowed: {_ALLOWED}")
    if isinstance(value, str):
        amount_ms = _of_text(value)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"duration: found {value}; allowed: {_ALLOWED}")
    else:
        amount_ms = Fraction(value)
    if not 0 <= amount_ms <= _MAX_MS:
        shown = repr(value) if isinstance(value, str) else "a negative number" if amount_ms < 0 else "more"
        raise ValueError(f"duration: found {shown}; allowed: 0 to {_MAX_MS} milliseconds")
    return math.ceil(amount_ms)


def _of_text(text: str) -> Fraction:
    match = _TEXT.fullmatch(text) if len(text) <= 80 else None
    if match is None:
        raise ValueError(f"duration: found {text[:80]!r}; allowed: {_ALLOWED}")
    unit = match["unit"]
    if unit is None:
        return Fraction(match["number"])
    if unit.lower() not in _UNIT_MS:
        raise ValueError(f"duration: found the unit {unit!r} in {text!r}; allowed: {', '.join(_UNIT_MS)}")
    return Fraction(match["number"]) * _UNIT_MS[unit.lower()]
