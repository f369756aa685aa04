"""Columns for a terminal."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

_WIDEST = 96


def aligned(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> Iterator[str]:
    """A line for each row, its cells below each other; those of the columns `right` end together. Very long cells are
    cut, except in the last column."""
    last = max(map(len, rows), default=0) - 1
    cut = [[cell if at == last else _cut(cell) for at, cell in enumerate(row)] for row in rows]
    widths = [max(len(row[at]) for row in cut if at < len(row)) for at in range(last + 1)]
    for row in cut:
        cells = (cell.rjust(widths[at]) if at in right else cell.ljust(widths[at]) for at, cell in enumerate(row))
        yield "  ".join(cells).rstrip()


def _cut(cell: str) -> str:
    return cell if len(cell) <= _WIDEST else cell[: _WIDEST - 1] + "…"
