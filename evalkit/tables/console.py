"""A summary on the terminal."""

from __future__ import annotations

import pandas as pd
from rich import box
from rich.table import Table
from rich.text import Text

from evalkit.tables.cells import Cell, Column, cells, columns, identity_columns, is_ranked

NAME_WIDTH = 24  # longer names are folded
LONG_WORD = 8
PADDING = 2  # characters between columns: one of padding, one of rich's own


def render_console(summary: pd.DataFrame, width: int = 100) -> Table:
    """A table of at most `width` characters: as many tables below one another as its columns need.

    Best systems are bold and underlined (a terminal may show no bold), systems that are not ranked dim. A mean is
    followed by its interval and n_ok/n_total.
    """
    # Scores next to the name and the rate; what the codec is comes after them.
    shown = sorted(columns(summary), key=lambda column: (column.key != "kbps", not column.is_metric))
    grid = cells(summary, shown)
    names = identity_columns(summary)
    taken = sum(min(NAME_WIDTH, _name_width(summary, name)) + PADDING for name in names)
    outer = Table.grid(padding=(0, 0, 1, 0))
    for block in _pack(shown, grid, width - taken):
        outer.add_row(_block(summary, shown, grid, block))
    return outer


def _name_width(summary: pd.DataFrame, name: str) -> int:
    return max(len(name), *(len(str(value)) for value in summary[name]))


def _pack(shown: list[Column], grid: list[list[Cell]], room: int) -> list[list[int]]:
    """Positions of the columns that go together, filled in order up to `room` characters."""
    packed: list[list[int]] = [[]]
    used = 0
    for position, column in enumerate(shown):
        widest = max((len(_text(line[position])) for line in grid), default=0)
        needed = max(widest, *(len(line) for line in _heading(column).split("\n"))) + PADDING
        if packed[-1] and used + needed > room:
            packed.append([])
            used = 0
        packed[-1].append(position)
        used += needed
    return packed


def _heading(column: Column) -> str:
    """The heading over two lines, split at its last blank or, if long, after its stroke; the arrow on the second."""
    first, _, last = column.heading.rpartition(" ")
    if not first and len(last) > LONG_WORD:
        first, stroke, last = last.rpartition("/")
        first += stroke
    return f"{first}\n{last} {column.better}".strip(" ")


def _text(cell: Cell) -> str:
    return f"{cell.text} {cell.detail}".rstrip()


def _block(summary: pd.DataFrame, shown: list[Column], grid: list[list[Cell]], block: list[int]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, PADDING - 1, 0, 0), pad_edge=False, show_edge=False)
    for name in identity_columns(summary):
        table.add_column(f"\n{name}", max_width=NAME_WIDTH, overflow="fold")
    for position in block:
        table.add_column(Text(_heading(shown[position])), justify="right", no_wrap=True)
    ranked = is_ranked(summary).to_list()
    for index, line in enumerate(grid):
        style = "" if ranked[index] else "dim"
        record = [Text(str(summary[name].iloc[index]), style=style) for name in identity_columns(summary)]
        for position in block:
            cell = line[position]
            best = (cell.text, "bold underline" if cell.best else style)
            record.append(Text.assemble(best, (f" {cell.detail}", "dim")) if cell.detail else Text.assemble(best))
        table.add_row(*record, end_section=_last_of_dataset(summary, index))
    return table


def _last_of_dataset(summary: pd.DataFrame, index: int) -> bool:
    return index + 1 < len(summary) and summary["dataset"].iloc[index] != summary["dataset"].iloc[index + 1]
