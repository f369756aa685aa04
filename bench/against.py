"""An earlier run beside this one: every figure before and after, at one speed where speed matters."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.figure import Figure


class Unreadable(Exception):
    """The file holds no run."""


@dataclass(frozen=True, slots=True)
class Change:
    """One figure in both runs; `before` is None where the earlier one did not have it."""

    what: str
    unit: str
    before: float | None
    after: float
    scaled: bool
    """Both are at the reference's speed; otherwise as measured."""
    note: str

    @property
    def ratio(self) -> float | None:
        return self.after / self.before if self.before else None

    def line(self) -> str:
        before = "-" if self.before is None else f"{self.before:.2f}"
        ratio = "" if self.ratio is None else f"{self.ratio - 1:+.0%}"
        scaled = "scaled" if self.scaled else ""
        return (
            f"{self.what:62} {before:>10} {self.after:10.2f} {self.unit:4} {ratio:>6} {scaled:6} {self.note}".rstrip()
        )


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
        for figure in figures.values():
            float(figure["value"])
        return Earlier(str(kept["commit"]), str(kept["at"]), str(kept["machine"]), figures)
    except OSError as error:
        raise Unreadable(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, TypeError, KeyError) as error:
        raise Unreadable(f"{path} is no run of the bench ({error!r}); allowed: a .json of bench/results") from None


def changes(earlier: Earlier, figures: Sequence[Figure]) -> list[Change]:
    """By figure, in this run's order. What both runs have at the reference's speed is compared there."""
    found = []
    for figure in figures:
        old = earlier.figures.get(figure.what)
        scaled = figure.scaled is not None and (old is None or old.get("scaled") is not None)
        before = None if old is None else float(old["scaled"] if scaled else old["value"])
        after = figure.scaled if scaled and figure.scaled is not None else figure.value
        found.append(Change(figure.what, figure.unit, before, after, scaled, figure.note))
    return found


def table(earlier: Earlier, compared: Sequence[Change]) -> str:
    """In Markdown."""
    lines = [
        f"Before: commit {earlier.commit}, {earlier.at}, {earlier.machine}.",
        "",
        "| figure | before | after | unit | change | at | note |",
        "|---|---:|---:|---|---:|---|---|",
    ]
    for one in compared:
        before = "" if one.before is None else f"{one.before:.2f}"
        ratio = "" if one.ratio is None else f"{one.ratio - 1:+.0%}"
        at = "reference's speed" if one.scaled else "as measured"
        lines.append(f"| {one.what} | {before} | {one.after:.2f} | {one.unit} | {ratio} | {at} | {one.note} |")
    return "\n".join(lines) + "\n"
