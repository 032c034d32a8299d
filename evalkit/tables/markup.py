"""A summary as Markdown and as LaTeX (booktabs)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import pandas as pd

from evalkit.tables.cells import Cell, Column, blocks, cells, identity_columns, is_ranked

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
}


def escape_markdown(text: str) -> str:
    """`text` on one line, with the characters that Markdown or a table would interpret escaped."""
    return re.sub(r"([\\`*_\[\]<>|~#$])", r"\\\1", " ".join(text.split()))


def escape_latex(text: str) -> str:
    """`text` on one line, with the characters that LaTeX would interpret escaped; arrows become mathematics."""
    return "".join(LATEX_SPECIAL.get(character, character) for character in " ".join(text.split()))


def to_markdown(summary: pd.DataFrame, title: str, notes: Sequence[str]) -> str:
    """Markdown: heading, one table a block of columns, the notes as a list. Title and notes are plain text."""
    parts = [f"## {escape_markdown(title)}"]
    names = identity_columns(summary)
    for block in blocks(summary):
        head = [IDENTITY_HEADINGS[name] for name in names] + [_heading(column, escape_markdown) for column in block]
        lines = [head, ["---"] * len(names) + ["---:"] * len(block)]
        lines += _rows(summary, block, escape_markdown, "*{}*".format, _markdown_cell)
        parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    if notes:
        parts.append("\n".join(f"- {escape_markdown(note)}" for note in notes))
    return "\n\n".join(parts) + "\n"


def to_latex(summary: pd.DataFrame, title: str, notes: Sequence[str]) -> str:
    r"""LaTeX: one `table*` with a `tabular` a block of columns. Needs `\usepackage{booktabs}`, UTF-8."""
    names = identity_columns(summary)
    label = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    lines = [r"% needs \usepackage{booktabs}", r"\begin{table*}", r"\centering", r"\small"]
    lines += [rf"\caption{{{escape_latex(title)}}}", rf"\label{{tab:{label}}}"]
    for position, block in enumerate(blocks(summary)):
        head = [IDENTITY_HEADINGS[name] for name in names] + [_heading(column, escape_latex) for column in block]
        if position:
            lines += ["", r"\medskip"]
        lines += [rf"\begin{{tabular}}{{{'l' * len(names)}{'r' * len(block)}}}", r"\toprule"]
        lines += [" & ".join(head) + r" \\", r"\midrule"]
        rows = _rows(summary, block, escape_latex, r"\textit{{{}}}".format, _latex_cell)
        for index, row in enumerate(rows):
            if index and summary["dataset"].iloc[index] != summary["dataset"].iloc[index - 1]:
                lines.append(r"\midrule")
            lines.append(" & ".join(row) + r" \\")
        lines += [r"\bottomrule", r"\end{tabular}"]
    if notes:
        sentences = [rf"{escape_latex(note)}\par" for note in notes]
        lines += ["", r"\smallskip", r"\begin{minipage}{\linewidth}\footnotesize", *sentences, r"\end{minipage}"]
    return "\n".join([*lines, r"\end{table*}", ""])


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
    return f"{text} {cell.detail}" if cell.detail else text


def _latex_cell(cell: Cell) -> str:
    text = rf"\textbf{{{cell.text}}}" if cell.best else cell.text
    return rf"{text} {{\scriptsize {escape_latex(cell.detail)}}}" if cell.detail else text
