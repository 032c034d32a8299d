"""A summary as Markdown and as LaTeX (booktabs)."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence

import pandas as pd

from evalkit.tables.cells import Cell, Column, blocks, cells, identity_columns, is_ranked
from evalkit.text import printable

PACKAGES = r"% needs \usepackage{booktabs,amssymb}"
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


def markdown_table(head: Sequence[str], num_names: int, rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table of rendered cells; the first `num_names` columns are names, the rest are numbers."""
    rule = ["---"] * num_names + ["---:"] * (len(head) - num_names)
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *rows))


def latex_tabular(
    head: Sequence[str], num_names: int, rows: Sequence[Sequence[str]], rules: Collection[int] = ()
) -> list[str]:
    """Lines of a booktabs `tabular` of rendered cells; `rules`: positions of rows with a line above them."""
    lines = [rf"\begin{{tabular}}{{{'l' * num_names}{'r' * (len(head) - num_names)}}}", r"\toprule"]
    lines += [" & ".join(head) + r" \\", r"\midrule"]
    for position, row in enumerate(rows):
        if position in rules:
            lines.append(r"\midrule")
        lines.append(" & ".join(row) + r" \\")
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
    parts = [f"## {escape_markdown(title)}"]
    names = identity_columns(summary)
    for block in blocks(summary):
        head = [IDENTITY_HEADINGS[name] for name in names] + [_heading(column, escape_markdown) for column in block]
        rows = _rows(summary, block, escape_markdown, "*{}*".format, _markdown_cell)
        parts.append(markdown_table(head, len(names), rows))
    if notes:
        parts.append("\n".join(f"- {escape_markdown(note)}" for note in notes))
    return "\n\n".join(parts) + "\n"


def to_latex(summary: pd.DataFrame, title: str, notes: Sequence[str]) -> str:
    """LaTeX: one `table*` with a `tabular` a block of columns. Needs the packages in `PACKAGES`, UTF-8."""
    names = identity_columns(summary)
    datasets = summary["dataset"].to_list()
    rules = [position for position in range(1, len(datasets)) if datasets[position] != datasets[position - 1]]
    body: list[str] = []
    for block in blocks(summary):
        head = [IDENTITY_HEADINGS[name] for name in names] + [_heading(column, escape_latex) for column in block]
        rows = _rows(summary, block, escape_latex, r"\textit{{{}}}".format, _latex_cell)
        body += ["", r"\medskip"] if body else []
        body += latex_tabular(head, len(names), rows, rules)
    return "\n".join([PACKAGES, *latex_float(title, body, notes, title), ""])


def _heading(column: Column, escape: Callable[[str], str]) -> str:
    return escape(f"{column.heading} {column.better}".strip())


def _rows(
    summary: pd.DataFrame,
    block: Sequence[Column],
    escape: Callable[[str], str],
    italic: Callable[[str], str],
    render: Callable[[Cell], str],
) -> list[list[str]]:
    """Rows of rendered text; the names of systems that are not ranked in italics."""
    names = identity_columns(summary)
    ranked = is_ranked(summary).to_list()
    rows = []
    for position, line in enumerate(cells(summary, block)):
        record = [escape(str(summary[name].iloc[position])) for name in names]
        if not ranked[position]:
            record[-1] = italic(record[-1])
        rows.append(record + [render(cell) for cell in line])
    return rows


def _markdown_cell(cell: Cell) -> str:
    text = f"**{cell.text}**" if cell.best else cell.text
    return " ".join(part for part in (text, cell.spread, cell.mark, cell.scored) if part)


def _latex_cell(cell: Cell) -> str:
    text = rf"\textbf{{{cell.text}}}" if cell.best else cell.text
    small = (rf"{{\scriptsize {escape_latex(part)}}}" if part else "" for part in (cell.spread, cell.scored))
    spread, count = small
    return " ".join(part for part in (text, spread, escape_latex(cell.mark), count) if part)
