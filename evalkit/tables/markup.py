"""Tables as Markdown and as LaTeX (booktabs), and a summary in both."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

import pandas as pd

from evalkit.tables.cells import blocks, cells, identity_columns, is_ranked
from evalkit.tables.table import Cell, Table
from evalkit.text import printable

PACKAGES = r"% needs \usepackage{booktabs,amssymb}"
# Statistics are set as mathematics.
LATEX_HEADINGS = {"d_z": "$d_z$", "r": "$r$", "p": "$p$", "p (Holm)": "$p$ (Holm)"}
IDENTITY_HEADINGS = {"dataset": "Data set", "system": "System"}
LATEX_SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "[": "{[}",  # a bracket right after a row's end would be read as its option
    "]": "{]}",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "±": r"$\pm$",
    "▲": r"$\blacktriangle$",  # this and the next three are amssymb's
    "▼": r"$\blacktriangledown$",
    "△": r"$\vartriangle$",
    "▽": r"$\triangledown$",
}


def escape_markdown(text: str) -> str:
    """`text` on one line, with the characters that Markdown or a table would interpret escaped."""
    return re.sub(r"([\\`*_\[\]<>|~#$&])", r"\\\1", printable(" ".join(text.split())))


def escape_latex(text: str) -> str:
    """`text` on one line, with the characters that LaTeX would interpret escaped; arrows become mathematics."""
    return "".join(LATEX_SPECIAL.get(character, character) for character in printable(" ".join(text.split())))


def markdown_table(table: Table, escape: Callable[[str], str] = escape_markdown) -> str:
    """In GitHub's Markdown; `escape` makes plain text of anything."""
    rule = ["---"] * table.num_names + ["---:"] * (len(table.head) - table.num_names)
    lines = [list(map(escape, table.head)), rule]
    lines += [[_markdown_cell(cell, escape) for cell in row] for row in table.cells()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def markdown_list(notes: Iterable[str]) -> str:
    """Plain sentences as a list."""
    return "\n".join(f"- {escape_markdown(note)}" for note in notes)


def markdown_heading(title: str, level: int = 2) -> str:
    return f"{'#' * level} {escape_markdown(title)}"


def markdown_page(title: str, parts: Sequence[str], notes: Sequence[str]) -> str:
    """A heading, parts that are Markdown already, and plain notes as a list."""
    listed = [markdown_list(notes)] if notes else []
    return "\n\n".join([markdown_heading(title), *parts, *listed]) + "\n"


def latex_tabular(table: Table) -> list[str]:
    """Lines of a booktabs `tabular`."""
    columns = "l" * table.num_names + "r" * (len(table.head) - table.num_names)
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
    lines += [" & ".join(LATEX_HEADINGS.get(name) or escape_latex(name) for name in table.head) + r" \\", r"\midrule"]
    for position, row in enumerate(table.cells()):
        if position in table.sections:
            lines.append(r"\midrule")
        lines.append(" & ".join(map(_latex_cell, row)) + r" \\")
    return [*lines, r"\bottomrule", r"\end{tabular}"]


def latex_float(title: str, body: Sequence[str], notes: Sequence[str], label: str, wide: bool = True) -> list[str]:
    r"""Lines of a `table*` (or `table`) around `body`, caption above and notes below; `title`, `notes` plain text."""
    kind = "table*" if wide else "table"
    lines = [rf"\begin{{{kind}}}", r"\centering", r"\small"]
    lines += [rf"\caption{{{escape_latex(title)}}}", rf"\label{{tab:{latex_label(label)}}}", *body]
    if notes:
        sentences = [rf"{escape_latex(note)}\par" for note in notes]
        lines += ["", r"\smallskip", r"\begin{minipage}{\linewidth}\footnotesize", *sentences, r"\end{minipage}"]
    return [*lines, rf"\end{{{kind}}}"]


def latex_label(text: str) -> str:
    """`text` as a label: lower case, hyphens for anything but letters and digits."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def to_markdown(summary: pd.DataFrame, title: str, notes: Sequence[str]) -> str:
    """Markdown: heading, one table a block of columns, the notes as a list. Title and notes are plain text."""
    return markdown_page(title, list(map(markdown_table, summary_tables(summary))), notes)


def to_latex(summary: pd.DataFrame, title: str, notes: Sequence[str]) -> str:
    """LaTeX: one `table*` with a `tabular` a block of columns. Needs the packages in `PACKAGES`, UTF-8."""
    body: list[str] = []
    for table in summary_tables(summary):
        body += ["", r"\medskip"] if body else []
        body += latex_tabular(table)
    return "\n".join([PACKAGES, *latex_float(title, body, notes, title), ""])


def summary_tables(summary: pd.DataFrame) -> list[Table]:
    """One a block of columns (see `blocks`); the names of systems that are not ranked stand aside."""
    names = identity_columns(summary)
    datasets = summary["dataset"].to_list()
    sections = frozenset(place for place in range(1, len(datasets)) if datasets[place] != datasets[place - 1])
    aside = (~is_ranked(summary)).to_list()
    named = [
        [Cell(str(row[name]), aside=lost and name == "system") for name in names]
        for row, lost in zip(summary.to_dict("records"), aside, strict=True)
    ]
    return [
        Table(
            [
                *(IDENTITY_HEADINGS[name] for name in names),
                *(f"{each.heading} {each.better}".strip() for each in block),
            ],
            [[*name, *line] for name, line in zip(named, cells(summary, block), strict=True)],
            len(names),
            sections,
        )
        for block in blocks(summary)
    ]


def _markdown_cell(cell: Cell, escape: Callable[[str], str]) -> str:
    text = escape(cell.text)
    text = f"**{text}**" if cell.best else f"*{text}*" if cell.aside else text
    return " ".join(filter(None, (text, *map(escape, (cell.spread, cell.mark, cell.scored)))))


def _latex_cell(cell: Cell) -> str:
    text = escape_latex(cell.text)
    text = rf"\textbf{{{text}}}" if cell.best else rf"\textit{{{text}}}" if cell.aside else text
    spread, count = (rf"{{\scriptsize {escape_latex(part)}}}" if part else "" for part in (cell.spread, cell.scored))
    return " ".join(filter(None, (text, spread, escape_latex(cell.mark), count)))
