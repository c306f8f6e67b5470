"""Tables that no screen cuts: the columns that don't fit stand in another table below, with the same rows."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.table import Table

GAP = 2
"""Columns of the screen between two of the table."""

MOST_NAMED = 0.6
"""How much of the width may go to what a row is called; longer names are folded."""


def fitted(
    head: Sequence[str], rows: Sequence[Sequence[str]], width: int, *, named: int = 1, bold: Collection[int] = ()
) -> list[Table]:
    """Tables of `width` columns at most, with all cells whole.

    The first `named` columns say what a row is, and stand in each table; all others are figures. Heads are folded
    between words, cells only where one alone is wider than its table. `bold` has the numbers of rows that stand out.
    """
    widths = [
        max(cell_len(word) for word in [*name.split(), *cells, ""]) for name, *cells in zip(head, *rows, strict=True)
    ]
    widths[:named] = _shared(widths[:named], int(width * MOST_NAMED) - GAP * named)
    names = sum(widths[:named]) + GAP * named
    widths[named:] = [min(width - names, each) for each in widths[named:]]
    parts: list[list[int]] = [[]]
    for column in range(named, len(head)):
        if parts[-1] and names + sum(widths[each] + GAP for each in [*parts[-1], column]) - GAP > width:
            parts.append([])
        parts[-1].append(column)
    return [_table(head, rows, widths, [*range(named), *part], named, bold) for part in parts]


def _shared(wanted: Sequence[int], most: int) -> list[int]:
    """Widths that are `most` together: who wants less than an equal share leaves the rest to the others."""
    found, left = list(wanted), most
    for place, number in enumerate(sorted(range(len(wanted)), key=wanted.__getitem__)):
        found[number] = max(1, min(wanted[number], left // (len(wanted) - place)))
        left -= found[number]
    return found


def _table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    widths: Sequence[int],
    columns: Sequence[int],
    named: int,
    bold: Collection[int],
) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0))
    for column in columns:
        justify = "left" if column < named else "right"
        table.add_column(head[column], justify=justify, width=widths[column], overflow="fold", vertical="bottom")
    for number, row in enumerate(rows):
        table.add_row(*(row[column] for column in columns), style="bold" if number in bold else None)
    return table
