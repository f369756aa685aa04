"""Comparing two servers on a machine that does other things: many short rounds in turn, the median of their ratios."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

_Z95 = 1.96


@dataclass(frozen=True, slots=True)
class Paired:
    ratio: float
    """Median of the rounds' ratios."""
    low: float
    """With `high`: 95 % interval of the median, of whatever distribution the ratios are."""
    high: float
    first: float
    """Median of what the first took."""
    second: float


def in_turn(rounds: int, first: Callable[[], float], second: Callable[[], float]) -> tuple[list[float], list[float]]:
    """Measure both in each round, the one that was last going first in the next."""
    firsts: list[float] = []
    seconds: list[float] = []
    for number in range(rounds):
        turns = [(first, firsts), (second, seconds)]
        for measure, into in turns if number % 2 else reversed(turns):
            into.append(measure())
    return firsts, seconds


def paired(firsts: list[float], seconds: list[float]) -> Paired:
    """Ratios are of the first to the second of each round."""
    ratios = sorted(a / b for a, b in zip(firsts, seconds, strict=True))
    count = len(ratios)
    # Of n values, how many are below the median is binomial: the ranks that hold it with 95 %.
    reach = math.ceil(_Z95 * math.sqrt(count) / 2)
    middle = count // 2
    return Paired(
        ratio=ratios[middle],
        low=ratios[max(0, middle - reach)],
        high=ratios[min(count - 1, middle + reach)],
        first=sorted(firsts)[middle],
        second=sorted(seconds)[middle],
    )
