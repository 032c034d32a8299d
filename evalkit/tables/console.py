"""A summary on the terminal."""

from __future__ import annotations

import pandas as pd
from rich import box
from rich.table import Table
from rich.text import Text

from evalkit.tables.cells import Column, cells, columns, identity_columns, is_ranked
from evalkit.tables.notes import short_notes
from evalkit.tables.table import Cell
from evalkit.text import printable

NAME_WIDTH = 24  # longer names are folded
LONG_WORD = 8
PADDING = 2  # characters between columns: one of padding, one of rich's own


def terminal_grid(title: str = "") -> Table:
    """An empty table as all on the terminal look: a line under the headings, nothing around."""
    return Table(
        title=title or None, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD,
        padding=(0, PADDING - 1, 0, 0), pad_edge=False, show_edge=False,
    )  # fmt: skip


def render_console(summary: pd.DataFrame, width: int = 100) -> Table:
    """A table of at most `width` characters: as many tables below one another as its columns need.

    Best systems are bold and underlined (a terminal may show no bold), systems that are not ranked dim. Below stand
    what ± and the marks mean, how many utterances the means are over, and the metrics' caveats.
    """
    # Scores next to the name and the rate; what the codec is comes after them.
    shown = sorted(columns(summary), key=lambda column: (column.key != "kbps", not column.is_metric))
    grid = cells(summary, shown)
    slots = [_slots([line[position] for line in grid]) for position in range(len(shown))]
    names = identity_columns(summary)
    taken = sum(min(NAME_WIDTH, _name_width(summary, name)) + PADDING for name in names)
    outer = Table.grid()
    for block in _pack(shown, slots, width - taken):
        outer.add_row(_block(summary, shown, grid, slots, block))
        outer.add_row("")
    outer.add_row(Text("\n".join(map(printable, short_notes(summary))), style="dim"))
    return outer


def _name_width(summary: pd.DataFrame, name: str) -> int:
    return max(len(name), *(len(printable(str(value))) for value in summary[name]))


def _slots(cells_of_column: list[Cell]) -> tuple[int, int, int]:
    """Widths of what stands in a column: number with its spread, mark, count; so that numbers stay below numbers."""
    scores = [cell for cell in cells_of_column if cell.spread or cell.mark or cell.scored]
    number = max((len(_number(cell)) for cell in scores), default=0)
    mark = max((len(cell.mark) for cell in scores), default=0)
    count = max((1 + len(cell.scored) for cell in scores if cell.scored), default=0)
    widest = max((len(_number(cell)) for cell in cells_of_column), default=0)
    return max(number, widest - mark - count), mark, count


def _pack(shown: list[Column], slots: list[tuple[int, int, int]], room: int) -> list[list[int]]:
    """Positions of the columns that go together, filled in order up to `room` characters."""
    packed: list[list[int]] = [[]]
    used = 0
    for position, column in enumerate(shown):
        needed = max(sum(slots[position]), *(len(line) for line in _heading(column).split("\n"))) + PADDING
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


def _number(cell: Cell) -> str:
    return f"{cell.text} {cell.spread}".rstrip()


def _block(
    summary: pd.DataFrame,
    shown: list[Column],
    grid: list[list[Cell]],
    slots: list[tuple[int, int, int]],
    block: list[int],
) -> Table:
    table = terminal_grid()
    for name in identity_columns(summary):
        table.add_column(f"\n{name}", max_width=NAME_WIDTH, overflow="fold")
    for position in block:
        # Cells are padded here: rich would strip the blanks that keep numbers below numbers.
        table.add_column(Text(_heading(shown[position]), justify="right"), justify="left", no_wrap=True)
    ranked = is_ranked(summary).to_list()
    for index, line in enumerate(grid):
        style = "" if ranked[index] else "dim"
        record = [Text(printable(str(summary[name].iloc[index])), style=style) for name in identity_columns(summary)]
        for position in block:
            heading = max(len(part) for part in _heading(shown[position]).split("\n"))
            record.append(_padded(line[position], slots[position], heading, style))
        table.add_row(*record, end_section=_last_of_dataset(summary, index))
    return table


def _padded(cell: Cell, slots: tuple[int, int, int], heading: int, style: str) -> Text:
    number, mark, count = slots
    plain = not (cell.spread or cell.mark or cell.scored)
    width = max(heading, number + mark + count) - (0 if plain else mark + count)
    parts = [
        (" " * (width - len(_number(cell))), ""),
        (cell.text, "bold underline" if cell.best else style),
        (f" {cell.spread}" if cell.spread else "", "dim"),
    ]
    if not plain:
        parts += [(cell.mark.ljust(mark), style), (f" {cell.scored}".rjust(count) if count else "", "dim")]
    return Text.assemble(*parts)


def _last_of_dataset(summary: pd.DataFrame, index: int) -> bool:
    return index + 1 < len(summary) and summary["dataset"].iloc[index] != summary["dataset"].iloc[index + 1]
