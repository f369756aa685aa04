"""One measured figure and what it must reach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Figure:
    what: str
    value: float
    unit: str
    bound: float | None = None
    sense: Literal["at most", "at least"] = "at most"
    note: str = ""

    @property
    def reached(self) -> bool:
        if self.bound is None:
            return True
        return self.value <= self.bound if self.sense == "at most" else self.value >= self.bound

    def line(self) -> str:
        bound = "" if self.bound is None else f"  ({self.sense} {self.bound:g}: {'yes' if self.reached else 'NO'})"
        note = f"  {self.note}" if self.note else ""
        return f"{self.what:62} {self.value:10.2f} {self.unit}{bound}{note}"
