"""The steps that the journal has from before this activation: which there are, and where in the journal. Pure.

A large instance has many of them, and a replay asks for one after the other. So a step takes a row of a few integers
here and not an object; its entries are read again when the script asks for it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from edge_runtime.workflows.core.journal import StepKey


class Past:
    """Rows are numbered from 0 in the order of the steps' starts. Entries are named by their numbers."""

    __slots__ = ("_requested", "_results", "_rows", "_starts", "count", "ended")

    def __init__(self) -> None:
        self.count = 0
        """How many rows there are."""
        self._starts = array("Q")
        self._results = array("Q")  # 0 where there is none
        self._requested = bytearray()
        self._rows: dict[tuple[str, ...], dict[str, int | array[int]]] = {}
        self.ended = array("Q")
        """Rows of steps that have a result, in the order of their results."""

    def begin(self, key: StepKey, seq: int) -> None:
        row = self.count
        self.count += 1
        self._starts.append(seq)
        self._results.append(0)
        self._requested.append(0)
        named = self._rows.setdefault(key.path, {})
        if key.occurrence == 1:
            named[key.name] = row
            return
        rows = named.get(key.name)
        if not isinstance(rows, array):
            # Numbered from 1, so that 0 says that there is none.
            rows = named[key.name] = array("Q", [0 if rows is None else rows + 1])
        rows.extend([0] * (key.occurrence - len(rows)))
        rows[key.occurrence - 1] = row + 1

    def end(self, row: int, seq: int) -> None:
        self._results[row] = seq
        self.ended.append(row)

    def row(self, key: StepKey) -> int | None:
        named = self._rows.get(key.path)
        rows = None if named is None else named.get(key.name)
        if isinstance(rows, array):
            return rows[key.occurrence - 1] - 1 if key.occurrence <= len(rows) and rows[key.occurrence - 1] else None
        return rows if key.occurrence == 1 else None

    def start(self, row: int) -> int:
        """The entry with which the step began."""
        return self._starts[row]

    def result(self, row: int) -> int:
        """The entry with the step's result; 0 if it has none."""
        return self._results[row]

    def request(self, row: int) -> None:
        """The script asks for the step."""
        self._requested[row] = 1

    def requested(self, row: int) -> bool:
        return bool(self._requested[row])

    def not_requested(self) -> Iterator[int]:
        """The rows that the script has not asked for, in order."""
        row = self._requested.find(0)
        while row >= 0:
            yield row
            row = self._requested.find(0, row + 1)
