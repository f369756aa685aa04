"""Rows for people and for programs: a rich table on a terminal, aligned text elsewhere, JSON on request."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Mapping, Sequence

import click

Cell = str | int | float | None


def print_rows(
    columns: Sequence[str], rows: Sequence[Mapping[str, Cell]], *, as_json: bool, right: Collection[str] = ()
) -> None:
    """Print `rows`; `columns` are their keys in order, and the headings. Numbers are aligned to the right, and so are
    the columns named in `right`, whose numbers are text already."""
    if as_json:
        click.echo(json.dumps([{column: row.get(column) for column in columns} for row in rows], indent=2))
    elif sys.stdout.isatty():
        _print_rich(columns, rows, _to_the_right(columns, rows, right))
    else:
        _print_plain(columns, rows, _to_the_right(columns, rows, right))


def _to_the_right(
    columns: Sequence[str], rows: Sequence[Mapping[str, Cell]], named: Collection[str]
) -> tuple[bool, ...]:
    return tuple(column in named or any(isinstance(row.get(column), int | float) for row in rows) for column in columns)


def _print_plain(columns: Sequence[str], rows: Sequence[Mapping[str, Cell]], right: Sequence[bool]) -> None:
    cells = [[_text(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(line[i]) for line in [list(columns), *cells]) for i in range(len(columns))]
    for line in [list(columns), *cells]:
        padded = (
            cell.rjust(width) if align else cell.ljust(width)
            for cell, width, align in zip(line, widths, right, strict=True)
        )
        click.echo("  ".join(padded).rstrip())


def _print_rich(columns: Sequence[str], rows: Sequence[Mapping[str, Cell]], right: Sequence[bool]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold")
    for column, align in zip(columns, right, strict=True):
        table.add_column(column, justify="right" if align else "left")
    for row in rows:
        table.add_row(*(Text(_text(row.get(column))) for column in columns))
    Console().print(table)


def _text(cell: Cell) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, float):
        return f"{cell:.1f}"
    return str(cell)
