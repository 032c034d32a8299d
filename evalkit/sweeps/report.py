"""What a sweep leaves beside its trials: rows, tables, plots, verdicts on claims; and a summary on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from rich.text import Text

from evalkit.figures.looks import NothingToDraw, pages
from evalkit.plots.drawing import DrawnPlots
from evalkit.plots.figures import save
from evalkit.sweeps.budget import describe_budget
from evalkit.sweeps.claim_files import load_claims
from evalkit.sweeps.claim_tables import claims_markdown
from evalkit.sweeps.claims import ClaimVerdict, judge, verdicts
from evalkit.sweeps.comparison import choose_baseline, compare_series, summarize_configurations
from evalkit.sweeps.configurations import RateSeries, configurations, rate_series, scored_metrics
from evalkit.sweeps.folder import SweepFolder
from evalkit.sweeps.plots import compared_targets, plot_matched_differences, plot_quality_along_rate
from evalkit.sweeps.results import SweepRows
from evalkit.sweeps.tables import (
    configurations_latex,
    configurations_markdown,
    failed_markdown,
    matched_markdown,
    metric_cell,
    usual_count,
)
from evalkit.tables import metric_format
from evalkit.tables.cells import format_number
from evalkit.tables.console import terminal_grid
from evalkit.tables.csv_text import csv_text
from q2d2.files import write_atomically

# By these names tables and plots are known as ours.
TABLES = ("configurations.*", "matched.*", "claims.*", "failed.md")
PLOTS = ("quality-along-rate*", "quality-along-entropy-rate*", "differences-at-*")
MAX_SHOWN = 30  # configurations on the terminal
METRICS_SHOWN = 3


@dataclass(frozen=True)
class SweepReport:
    """What `write_report` left.

    Attributes:
        folder: of the sweep.
        metrics: with scores, in order.
        summary: one row a configuration, `summarize_configurations`.
        matched: every series against the baseline, `compare_series`.
        judged: the comparisons of the claims, `judge`; None for a sweep without claims.
        claims: the verdicts; empty for a sweep without claims.
        failed: rows of the trials that failed.
        tables: paths.
        plots: paths, and what could not be drawn and why.
    """

    folder: Path
    metrics: list[str]
    summary: pd.DataFrame
    matched: pd.DataFrame
    judged: pd.DataFrame | None
    claims: list[ClaimVerdict]
    failed: pd.DataFrame
    tables: list[Path]
    plots: DrawnPlots


def write_report(sweep: SweepFolder, rows: SweepRows, baseline: str | None = None) -> SweepReport:
    """Write rows, tables and plots of what a sweep has so far into its folder; older ones of ours are replaced.

    Args:
        sweep: the folder.
        rows: what `collect` read of its trials.
        baseline: series or family that the others are compared with; None for the first of the sweep's file.

    Raises:
        SweepError: `baseline` is in no trial, or a metric was scored by two versions.
        ClaimsError: the sweep's claims cannot be read.
    """
    claims = None if sweep.sweep.claims is None else load_claims(sweep.sweep.claims)
    found = configurations(sweep, rows)
    series = rate_series(found)
    reference = choose_baseline(series, baseline)
    metrics, without = scored_metrics(rows)
    summary = summarize_configurations(found, metrics)
    matched = compare_series(series, reference, metrics)
    failed = rows.trials[rows.trials["state"] == "failed"]
    title = sweep.sweep.title or sweep.sweep.name
    budget = describe_budget(sweep, rows.trials)
    notes = [*budget, *sweep.sweep.notes, *(f"{metric_format(key).label}: {why}." for key, why in without.items())]
    texts = {
        "configurations.csv": csv_text(summary),
        "configurations.md": configurations_markdown(summary, metrics, title, notes),
        "configurations.tex": configurations_latex(summary, metrics, title, notes),
        "matched.csv": csv_text(matched),
        "matched.md": matched_markdown(matched, f"{title}: at equal rate", notes),
    }
    judged, decided = None, []
    if claims is not None:
        judged = judge(claims, series, metrics)
        decided = verdicts(claims, judged)
        of_claim = {each.claim.id: each.verdict for each in decided}
        texts["claims.csv"] = csv_text(judged.assign(claim_verdict=judged["claim"].map(of_claim)))
        texts["claims.md"] = claims_markdown(claims, judged, decided, [*budget, *sweep.sweep.notes], without)
    if len(failed):
        texts["failed.md"] = failed_markdown(failed, f"{title}: failed, {len(failed):,} of {len(rows.trials):,} trials")
    rows.write(sweep.folder)
    tables = _write(texts, sweep.folder / "tables")
    plots = _draw(summary, matched, series, reference, metrics, title, sweep.folder / "plots")
    _remove_others(sweep.folder / "tables", TABLES, tables)
    _remove_others(sweep.folder / "plots", PLOTS, plots.files)
    return SweepReport(sweep.folder, metrics, summary, matched, judged, decided, failed, tables, plots)


def show_report(report: SweepReport, console: Console) -> None:
    """Print the configurations, the verdicts on claims, how many trials failed, and where all of it lies."""
    console.print(_shown(report))
    hidden = len(report.summary) - MAX_SHOWN
    lines = [f"and {hidden:,} further configurations"] if hidden > 0 else []
    stars = any((report.summary[f"{metric}_note"] != "").any() for metric in report.metrics)
    lines.append(
        "a ± b: mean over seeds and utterances, half of its 95 % interval"
        + ("; *: over utterances only: one seed" if stars else "")
    )
    lines += [f"claim {each.claim.id}: {each.verdict.upper()} ({each.counts})" for each in report.claims]
    lines += [f"no plot {name}: {reason}" for name, reason in report.plots.skipped.items()]
    if len(report.failed):
        lines.append(f"failed trials: {len(report.failed):,}, with reasons in {report.folder / 'tables' / 'failed.md'}")
    lines.append(f"tables: {report.folder / 'tables'}  plots: {report.folder / 'plots'}")
    lines.append(f"to look at all of it: evalkit report {report.folder}")
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _shown(report: SweepReport) -> Table:
    table = terminal_grid()
    metrics = report.metrics[:METRICS_SHOWN]
    table.add_column("configuration", overflow="fold")
    for heading in (
        "bits/frame",
        "coded",
        *(f"{metric_format(metric).label} {metric_format(metric).arrow}" for metric in metrics),
    ):
        table.add_column(heading, justify="right")
    table.add_column("seeds", overflow="fold")
    usual = usual_count(report.summary, report.metrics)
    for row in report.summary.head(MAX_SHOWN).to_dict("records"):
        rates = [format_number(row[key], 2) for key in ("bits_per_frame", "entropy_bits_per_frame")]
        cells = [str(row["configuration"]), *rates, *(metric_cell(row, metric, usual) for metric in metrics)]
        table.add_row(*(Text(cell) for cell in [*cells, str(row["status"])]))
    return table


def _draw(
    summary: pd.DataFrame, matched: pd.DataFrame, series: Sequence[RateSeries], baseline: RateSeries,
    metrics: Sequence[str], title: str, folder: Path,
) -> DrawnPlots:  # fmt: skip
    plots: dict[str, Callable[[], Figure]] = {}
    for number, part in enumerate(pages(metrics), 1):
        suffix = f"-{number}" if number > 1 else ""
        plots[f"quality-along-rate{suffix}"] = partial(
            plot_quality_along_rate, summary, series, part, "nominal", f"{title}: quality along the rate"
        )
        plots[f"quality-along-entropy-rate{suffix}"] = partial(
            plot_quality_along_rate, summary, series, part, "entropy", f"{title}: quality along the coded rate"
        )
        for target in compared_targets(matched):
            plots[f"differences-at-{target:.4g}{suffix}"] = partial(
                plot_matched_differences, matched, series, part, target,
                f"{title}: difference from {baseline.name} near {target:.4g} bits per frame",
            )  # fmt: skip
    files: list[Path] = []
    skipped = {}
    for name, draw in plots.items():
        try:
            files += save(draw(), folder, name)
        except NothingToDraw as reason:
            skipped[name] = str(reason)
    return DrawnPlots(tuple(files), skipped)


def _write(texts: Mapping[str, str], folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write_atomically(folder / name, text)
    return [folder / name for name in texts]


def _remove_others(folder: Path, patterns: Sequence[str], written: Sequence[Path]) -> None:
    """Remove what an earlier call has left of our own files in `folder`."""
    for pattern in patterns:
        for path in folder.glob(pattern):
            if path not in written:
                path.unlink()
