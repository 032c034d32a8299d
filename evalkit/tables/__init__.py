"""Comparison tables: one row a system, means with intervals and counts, as CSV, Markdown, LaTeX and on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from evalkit.tables.cells import Column, columns, is_ranked
from evalkit.tables.console import render_console
from evalkit.tables.markup import to_latex, to_markdown
from evalkit.tables.notes import standing_notes
from evalkit.tables.summary import MetricFormat, metric_format, resampling_unit, summarize

__all__ = [
    "Column",
    "MetricFormat",
    "columns",
    "is_ranked",
    "metric_format",
    "render_console",
    "resampling_unit",
    "summarize",
    "write_tables",
]


def write_tables(
    utterances: pd.DataFrame,
    systems: pd.DataFrame,
    out_dir: Path,
    title: str,
    notes: Sequence[str] = (),
) -> list[Path]:
    """Write `comparison.csv`, `comparison.md` and `comparison.tex` into `out_dir` (made if missing).

    The CSV holds the summary at full precision, one column a number. Markdown and LaTeX print it rounded, the best
    system of each ranked column in bold, followed by `notes` and the notes that every table needs (what the brackets
    and counts are, who is ranked, how the speed was measured, why rows failed).

    Args:
        utterances: rows of utterances.parquet.
        systems: rows of systems.parquet, in the order of the experiment.
        out_dir: folder of the tables.
        title: heading and caption, plain text.
        notes: plain-text sentences put first under the table.

    Returns:
        The three paths.

    Raises:
        ValueError: the rows are inconsistent, see `summarize`.
    """
    summary = summarize(utterances, systems)
    all_notes = [*notes, *standing_notes(utterances, systems, summary)]
    out_dir.mkdir(parents=True, exist_ok=True)
    texts = {
        "csv": summary.to_csv(index=False, lineterminator="\n"),
        "md": to_markdown(summary, title, all_notes),
        "tex": to_latex(summary, title, all_notes),
    }
    paths = []
    for suffix, text in texts.items():
        path = out_dir / f"comparison.{suffix}"
        path.write_text(text, encoding="utf-8", newline="\n")
        paths.append(path)
    return paths
