"""Figures from samples: percentiles, and whether one series of rounds differs from another. Pure.

Rounds of two subjects are taken in turns, so that other work on the machine falls on both; compared are the logarithms
of the ratios of each pair of rounds, by a t interval: what multiplies both sides of a pair cancels out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Final, Literal

ROUNDS_MIN: Final = 3
"""Fewer pairs give an interval that says nothing."""

_T_975: Final = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""Student's t, 97.5 %, for 1, 2, ... degrees of freedom."""
_T_975_MANY: Final = 2.0
_SMALLEST: Final = 1e-3

Verdict = Literal["more", "less", "no difference shown"]


@dataclass(frozen=True, slots=True)
class Spread:
    """A sample in brief; all zero for an empty one."""

    count: int
    mean: float
    p50: float
    p95: float
    p99: float


def spread(values: Sequence[float]) -> Spread:
    if not values:
        return Spread(0, 0.0, 0.0, 0.0, 0.0)
    ordered = sorted(values)
    return Spread(
        len(ordered), fmean(ordered), percentile(ordered, 50), percentile(ordered, 95), percentile(ordered, 99)
    )


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of the ordered values do not exceed."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


@dataclass(frozen=True, slots=True)
class Comparison:
    """How much more a candidate uses than a base: `change` 0.1 is a tenth more, `low` to `high` its 95 % interval."""

    base: float
    candidate: float
    change: float
    low: float
    high: float

    @property
    def verdict(self) -> Verdict:
        if self.low > 0:
            return "more"
        return "less" if self.high < 0 else "no difference shown"

    def exceeds(self, percent: float) -> bool:
        """Whether the candidate is shown to use more than `percent` above the base: the whole interval lies there."""
        return self.low * 100 > percent


def compare(base: Sequence[float], candidate: Sequence[float]) -> Comparison:
    """Compare the rounds of two subjects, taken in pairs; at least ROUNDS_MIN of each."""
    if len(base) != len(candidate) or len(base) < ROUNDS_MIN:
        raise ValueError(f"{len(base)} and {len(candidate)} rounds; allowed: at least {ROUNDS_MIN}, as many of each")
    # Handlers that the clock sees as free are not infinitely cheaper than others.
    logs = [math.log(max(new, _SMALLEST) / max(old, _SMALLEST)) for old, new in zip(base, candidate, strict=True)]
    freedom = len(logs) - 1
    t = _T_975[freedom - 1] if freedom <= len(_T_975) else _T_975_MANY
    middle, half = fmean(logs), t * stdev(logs) / math.sqrt(len(logs))
    return Comparison(
        base=fmean(base),
        candidate=fmean(candidate),
        change=math.expm1(middle),
        low=math.expm1(middle - half),
        high=math.expm1(middle + half),
    )
