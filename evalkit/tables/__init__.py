"""Comparison tables: one row a system, means with intervals and marks, as CSV, Markdown, LaTeX and on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from evalkit.tables.cells import Column, columns, is_ranked, metric_names
from evalkit.tables.console import render_console
from evalkit.tables.differences import differences_latex, differences_markdown, method_notes, render_differences
from evalkit.tables.markup import to_latex, to_markdown
from evalkit.tables.notes import protocol_note, standing_notes, units
from evalkit.tables.paired import compare_with_baseline
from evalkit.tables.summary import MetricFormat, metric_format, metric_keys, resampling_unit, summarize

__all__ = [
    "Column",
    "MetricFormat",
    "columns",
    "compare_with_baseline",
    "is_ranked",
    "metric_format",
    "metric_keys",
    "metric_names",
    "render_console",
    "render_differences",
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
    baseline: str | None = None,
) -> list[Path]:
    """Write `comparison` and, with a baseline, `differences` as .csv, .md and .tex into `out_dir` (made if missing).

    The CSV holds the numbers at full precision, one column a number. Markdown and LaTeX print them rounded, the best
    system of each ranked column in bold, what differs from the baseline marked, followed by `notes` and the notes that
    every table needs (what ± and counts are, how marks were found, who is ranked, the protocol, how the speed was
    measured, the metrics' caveats, why scores are missing).

    Args:
        utterances: rows of utterances.parquet.
        systems: rows of systems.parquet, in the order of the experiment.
        out_dir: folder of the tables.
        title: heading and caption, plain text.
        notes: plain-text sentences put first under the table.
        baseline: the system that all others are compared with, see `compare_with_baseline`. None, or where it is the
            only system: no marks, no `differences`.

    Returns:
        The paths: three, or six with `differences`.

    Raises:
        ValueError: the rows are inconsistent, see `summarize`; `baseline` is not in `systems`.
    """
    found = None if baseline is None else compare_with_baseline(utterances, systems, baseline)
    differences = None if found is None or found.empty else found
    summary = summarize(utterances, systems, differences)
    all_notes = [*notes, *standing_notes(utterances, systems, summary, differences)]
    texts = {
        "comparison.csv": summary.to_csv(index=False, lineterminator="\n"),
        "comparison.md": to_markdown(summary, title, all_notes),
        "comparison.tex": to_latex(summary, title, all_notes),
    }
    if differences is not None:
        heading = f"{title}: differences to {baseline}"
        below = [*notes, *method_notes(differences, units(utterances)), *protocol_note(utterances)]
        texts |= {
            "differences.csv": differences.to_csv(index=False, lineterminator="\n"),
            "differences.md": differences_markdown(differences, heading, below),
            "differences.tex": differences_latex(differences, heading, below),
        }
    out_dir.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (out_dir / name).write_text(text, encoding="utf-8", newline="\n")
    return [out_dir / name for name in texts]
