"""One measured figure and what it must reach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bench.yardstick import REFERENCE_US


@dataclass(frozen=True, slots=True)
class Figure:
    """`bound` is judged on `judged`: the value at the reference's speed where the figure depends on the machine's."""

    what: str
    value: float
    """As measured."""
    unit: str
    """"us" is CPU time and "1/s" a rate that CPU limits: both depend on the machine's speed. Other units do not, unless
    `cpu_bound`."""
    bound: float | None = None
    sense: Literal["at most", "at least"] = "at most"
    note: str = ""
    cpu_bound: bool = False
    """The value is a time in which mostly CPU is used, in another unit than "us"."""
    yardstick_us: float | None = None
    """What `bench.yardstick` found beside it; None before it was asked."""

    @property
    def scaled(self) -> float | None:
        """The value at the speed of the machine the bounds come from; None where speed does not matter."""
        if self.yardstick_us is None:
            return None
        if self.unit == "1/s":
            return self.value * self.yardstick_us / REFERENCE_US
        if self.unit == "us" or self.cpu_bound:
            return self.value * REFERENCE_US / self.yardstick_us
        return None

    @property
    def judged(self) -> float:
        return self.value if self.scaled is None else self.scaled

    @property
    def reached(self) -> bool:
        if self.bound is None:
            return True
        return self.judged <= self.bound if self.sense == "at most" else self.judged >= self.bound

    @property
    def bound_text(self) -> str:
        return "" if self.bound is None else f"{self.sense} {self.bound:g}"

    @property
    def verdict(self) -> str:
        if self.bound is None:
            return ""
        return "reached" if self.reached else "MISSED"

    def line(self) -> str:
        scaled = "" if self.scaled is None else f"{self.scaled:.2f} scaled"
        bound = "" if self.bound is None else f"  ({self.bound_text}: {self.verdict})"
        note = f"  {self.note}" if self.note else ""
        return f"{self.what:62} {self.value:10.2f} {self.unit:3} {scaled:>16}{bound}{note}"
