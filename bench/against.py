"""An earlier run beside this one: every figure before and after, at one speed where speed matters."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from bench.answer import Answer
from bench.figure import Figure


class Unreadable(Exception):
    """The file holds no run."""


@dataclass(frozen=True, slots=True)
class Change:
    """One figure in both runs; `before` is None where the earlier one did not have it."""

    question: str
    what: str
    unit: str
    before: float | None
    after: float
    scaled: bool
    """Both are at the reference's speed; otherwise as measured."""
    verdict: str

    HEAD: ClassVar[tuple[str, ...]] = ("question", "figure", "before", "after", "unit", "change", "compared", "verdict")
    RIGHT: ClassVar[tuple[int, ...]] = (2, 3, 5)
    """Columns of numbers."""

    @property
    def cells(self) -> tuple[str, ...]:
        before = "" if self.before is None else f"{self.before:.2f}"
        change = f"{self.after / self.before - 1:+.0%}" if self.before else ""
        compared = "scaled" if self.scaled else "as measured"
        return (self.question, self.what, before, f"{self.after:.2f}", self.unit, change, compared, self.verdict)


@dataclass(frozen=True, slots=True)
class Earlier:
    commit: str
    at: str
    machine: str
    figures: dict[str, dict[str, Any]]


def read(path: Path) -> Earlier:
    """A run that `bench.results` has kept as JSON. Raises Unreadable."""
    try:
        kept = json.loads(path.read_text())
        figures = {figure["what"]: figure for figure in kept["figures"]}
        for row in kept["beside_peers"]:
            figures[f"{row['workload']}: {row['system']}"] = {"value": row["cpu_us"]}
        for figure in figures.values():
            float(figure["value"])
        return Earlier(str(kept["commit"]), str(kept["at"]), str(kept["machine"]), figures)
    except OSError as error:
        raise Unreadable(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, TypeError, KeyError) as error:
        raise Unreadable(f"{path} is no run of the bench ({error!r}); allowed: a .json of bench/results") from None


def changes(earlier: Earlier, answers: Iterable[Answer]) -> list[Change]:
    """By figure, in this run's order. What both runs have at the reference's speed is compared there."""
    return [
        _change(answer.question, figure, earlier.figures.get(figure.what))
        for answer in answers
        for figure in (*answer.figures, *(row.figure() for row in answer.rows))
    ]


def _change(question: str, figure: Figure, old: dict[str, Any] | None) -> Change:
    scaled = figure.scaled is not None and (old is None or old.get("scaled") is not None)
    before = None if old is None else float(old["scaled"] if scaled else old["value"])
    after = figure.scaled if scaled and figure.scaled is not None else figure.value
    return Change(question, figure.what, figure.unit, before, after, scaled, figure.verdict)
