"""Comparison tables: one row a system, means with intervals and marks, as CSV, Markdown, LaTeX and on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from evalkit.papers import Paper
from evalkit.tables.against_paper import (
    Counterpart,
    compare_with_paper,
    published_latex,
    published_markdown,
    published_notes,
    render_published,
)
from evalkit.tables.cells import Column, columns, is_ranked, metric_names
from evalkit.tables.console import render_console
from evalkit.tables.csv_text import csv_text
from evalkit.tables.differences import differences_latex, differences_markdown, method_notes, render_differences
from evalkit.tables.markup import to_latex, to_markdown
from evalkit.tables.notes import protocol_note, standing_notes, units
from evalkit.tables.paired import compare_with_baseline
from evalkit.tables.summary import MetricFormat, metric_format, metric_keys, resampling_unit, summarize
from q2d2.files import write_atomically

__all__ = [
    "Column",
    "Counterpart",
    "MetricFormat",
    "columns",
    "compare_with_baseline",
    "compare_with_paper",
    "is_ranked",
    "metric_format",
    "metric_keys",
    "metric_names",
    "render_console",
    "render_differences",
    "render_published",
    "resampling_unit",
    "summarize",
    "write_published",
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
        "comparison.csv": csv_text(summary),
        "comparison.md": to_markdown(summary, title, all_notes),
        "comparison.tex": to_latex(summary, title, all_notes),
    }
    if differences is not None:
        heading = f"{title}: differences to {baseline}"
        below = [*notes, *method_notes(differences, units(utterances), systems), *protocol_note(utterances)]
        texts |= {
            "differences.csv": csv_text(differences),
            "differences.md": differences_markdown(differences, heading, below),
            "differences.tex": differences_latex(differences, heading, below),
        }
    return _write(texts, out_dir)


def write_published(compared: pd.DataFrame, paper: Paper, out_dir: Path, title: str) -> list[Path]:
    """Write `published` as .csv, .md and .tex into `out_dir`; the paths. `compared` is from `compare_with_paper`."""
    notes = published_notes(compared, paper)
    heading = f"{title}: beside the numbers of {paper.title}"
    texts = {
        "published.csv": csv_text(compared),
        "published.md": published_markdown(compared, heading, notes),
        "published.tex": published_latex(compared, heading, notes),
    }
    return _write(texts, out_dir)


def _write(texts: Mapping[str, str], out_dir: Path) -> list[Path]:
    out_dir.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write_atomically(out_dir / name, text)
    return [out_dir / name for name in texts]
