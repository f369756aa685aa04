"""A witness of what ran that is outside of everything that is killed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from crash_server import read_lines
from crash_store import Instance


class Witnessed:
    """What ran, as a file outside of the store has it, against what was recorded at the moments of the kills."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self.recorded: set[tuple[str, str]] = set()
        """(id, step), recorded when a server was killed."""
        self.kills = 0
        self._seen = 0

    def killed(self, found: dict[str, Instance]) -> None:
        """To be called after a kill with what the store holds: what ran since the last one had not been recorded."""
        self._check()
        self.kills += 1
        self.recorded |= {(id, step) for id, instance in found.items() for step in instance.recorded}

    def _check(self) -> None:
        lines = read_lines(self._log)
        ran = [(str(line["id"]), str(line["step"])) for line in lines[self._seen :]]
        self._seen = len(lines)
        again = self.recorded.intersection(ran)
        assert not again, f"recorded steps ran again: {sorted(again)[:5]}"

    def counts(self) -> Counter[tuple[str, str]]:
        self._check()
        return Counter((str(line["id"]), str(line["step"])) for line in read_lines(self._log))

    def first_ms(self, id: str, step: str) -> float:
        """When the step's body began for the first time."""
        times = [line["at_ms"] for line in read_lines(self._log) if (line["id"], line["step"]) == (id, step)]
        return min(float(str(at_ms)) for at_ms in times)
