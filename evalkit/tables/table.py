"""A table before it has a form: names and numbers as plain text, which each renderer escapes for itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Cell(NamedTuple):
    """One printed cell.

    text: the number, or why there is none; or a name.
    spread: "± " and half the width of the mean's interval; may be empty.
    mark: "▲" better, "▼" worse than the baseline ("△" higher, "▽" lower), or empty.
    scored: "a/b" where not all of the table's utterances were scored; else empty.
    best: whether the number is printed in bold.
    aside: whether a name is printed in italics, or dim: of what is not ranked.
    """

    text: str
    spread: str = ""
    mark: str = ""
    scored: str = ""
    best: bool = False
    aside: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of cells; a text is a cell of that text alone.

    Attributes:
        head: the headings.
        rows: as many cells each.
        num_names: so many of the first columns are names, the others numbers.
        sections: positions of rows before which there is a line, where a form has lines.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    num_names: int = 1
    sections: frozenset[int] = frozenset()

    def cells(self) -> list[list[Cell]]:
        return [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in self.rows]
