"""Plots of a sweep: quality along the rate, a line a series; and differences from the baseline at each target rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from evalkit.figures.looks import Look, NothingToDraw, looks
from evalkit.plots.figures import legend_columns, styled, wrap
from evalkit.plots.forest import forest_panels, found, not_found
from evalkit.plots.lettering import add_legend
from evalkit.sweeps.comparison import KINDS
from evalkit.sweeps.configurations import RateSeries
from evalkit.sweeps.equal_rate import SAME_RATE, RateKind
from evalkit.tables import metric_format

# Beyond this, colours, markers and lines repeat in ways that a reader cannot tell apart.
MAX_SERIES = 20
PANEL_INCHES = 4.4
AXIS_LABELS = {"nominal": "bits per frame", "entropy": "entropy-coded bits per frame"}
RATE_COLUMNS = {"nominal": "bits_per_frame", "entropy": "entropy_bits_per_frame"}


@styled
def plot_quality_along_rate(
    summary: pd.DataFrame, series: Sequence[RateSeries], metrics: Sequence[str], kind: RateKind, title: str
) -> Figure:
    """One panel a metric: mean quality against bits per frame, a line a series.

    Without intervals: those of means overlap long after a difference is sure, see `plot_matched_differences`.

    Args:
        summary: of `summarize_configurations`.
        series: which configurations are joined; at most `MAX_SERIES`.
        metrics: panels.
        kind: of the rates.
        title: of the figure.

    Raises:
        NothingToDraw: no configuration has a rate and a score, or there are too many series.
    """
    _refuse_crowds(series)
    rates = summary[RATE_COLUMNS[kind]]
    drawn = [metric for metric in metrics if (summary[metric].notna() & (rates > 0)).any()]
    if not drawn:
        raise NothingToDraw("no configuration with a rate has a score")
    rows, width = wrap(2 if len(drawn) in (2, 4) else 3, len(drawn))
    names = _present(summary[rates > 0], series)
    handles = [_handle(look, name) for name, look in _looks(series).items() if name in names]
    inches = 0.6 + PANEL_INCHES * width
    columns = legend_columns(names, inches)
    legend_rows = -(-len(handles) // columns)
    figure = Figure(figsize=(inches, 0.9 + 0.22 * legend_rows + 3.8 * rows), layout="constrained")
    figure.suptitle(title)
    for position, metric in enumerate(drawn):
        axes = figure.add_subplot(rows, width, position + 1)
        style = metric_format(metric)
        axes.set_title(f"{style.label} {style.arrow}".strip())
        axes.set_ylabel(style.unit or style.label)
        shown = summary[summary[metric].notna() & (rates > 0)]
        _set_limits(axes, shown, metric, kind)
        _draw_series(axes, shown, metric, kind, series)
        axes.set_xlabel(AXIS_LABELS[kind])
    add_legend(figure, handles, loc="outside lower center", ncols=columns)
    return figure


@styled
def plot_matched_differences(
    matched: pd.DataFrame, series: Sequence[RateSeries], metrics: Sequence[str], target: float, title: str
) -> Figure:
    """A forest plot: one panel a metric, one row a series, its difference from the baseline at nominal rate `target`.

    Filled where the table of matched differences has a mark; rows of unequal rates or of one seed say so.

    Args:
        matched: of `compare_series`.
        series: rows, from top to bottom; at most `MAX_SERIES`.
        metrics: panels.
        target: bits per frame.
        title: of the figure.

    Raises:
        NothingToDraw: nothing could be compared, or there are too many series.
    """
    _refuse_crowds(series)
    chosen = matched[(matched["measure"] == "difference") & (matched["rate"] == "nominal")]
    chosen = chosen[(chosen["target"] == target) & chosen["difference"].notna() & chosen["metric"].isin(metrics)]
    if chosen.empty:
        raise NothingToDraw("no series could be compared with the baseline")
    drawn = [metric for metric in metrics if (chosen["metric"] == metric).any()]
    names = [each.name for each in series if (chosen["series"] == each.name).any()]
    labels = [_label(name, chosen[chosen["series"] == name].iloc[0]) for name in names]
    handles = [found(), not_found("no difference found, or one seed")]
    figure, panels = forest_panels(title, drawn, labels, handles, 2 if len(drawn) == 4 else 3, 3.4)
    for axes, metric in zip(panels, drawn, strict=True):
        for row in chosen[chosen["metric"] == metric].to_dict("records"):
            _draw_difference(axes, row, names.index(row["series"]), _looks(series)[row["series"]])
        axes.margins(x=0.08)
    return figure


def compared_targets(matched: pd.DataFrame) -> list[float]:
    """The target rates at which some series was compared with the baseline, in order."""
    rows = matched[(matched["measure"] == "difference") & (matched["rate"] == KINDS[0]) & matched["difference"].notna()]
    return [float(target) for target in rows["target"].unique()]


def _refuse_crowds(series: Sequence[RateSeries]) -> None:
    if len(series) > MAX_SERIES:
        raise NothingToDraw(f"{len(series):,} series, and no more than {MAX_SERIES} can be told apart")


def _looks(series: Sequence[RateSeries]) -> dict[str, Look]:
    rows = [(each.name, "codec", each.family) for each in series]
    return looks(pd.DataFrame(rows, columns=["system", "kind", "family"]))


def _present(summary: pd.DataFrame, series: Sequence[RateSeries]) -> list[str]:
    drawn = set(summary["id"])
    return [each.name for each in series if any(member.id in drawn for member in each.configurations)]


def _label(name: str, row: pd.Series) -> str:
    apart = row["rate_series"] - row["rate_baseline"]
    remarks = [f"{apart:+.2f} bits"] if abs(apart) > SAME_RATE else []
    remarks += ["1 seed"] if row["seeds"] == 1 else []
    return f"{name} ({', '.join(remarks)})" if remarks else name


def _handle(look: Look, name: str) -> Line2D:
    return Line2D([], [], color=look.color, marker=look.marker, linestyle=look.line, linewidth=1.3, label=name)


def _set_limits(axes: Axes, shown: pd.DataFrame, metric: str, kind: RateKind) -> None:
    rates = shown[RATE_COLUMNS[kind]].to_numpy(np.float64)
    margin = max(0.05 * np.ptp(rates), 0.02 * rates.max())
    axes.set_xlim(rates.min() - margin, rates.max() + margin)
    values = shown[metric].to_numpy(np.float64)
    bottom, top = values.min(), values.max()
    room = 0.08 * (top - bottom) if top > bottom else max(0.05 * abs(top), 1e-3)
    axes.set_ylim(bottom - room, top + room)
    axes.locator_params(axis="x", nbins=7)


def _draw_series(axes: Axes, shown: pd.DataFrame, metric: str, kind: RateKind, series: Sequence[RateSeries]) -> None:
    records = {row["id"]: row for row in shown.to_dict("records")}
    for each in series:
        look = _looks(series)[each.name]
        rows = [records[member.id] for member in each.configurations if member.id in records]
        rows.sort(key=lambda row: row[RATE_COLUMNS[kind]])
        line: dict[str, Any] = {"color": look.color, "linestyle": look.line, "linewidth": 1.2, "zorder": 3}
        filled: dict[str, Any] = {"marker": look.marker, "markeredgecolor": "white", "markeredgewidth": 0.5}
        axes.plot([row[RATE_COLUMNS[kind]] for row in rows], [row[metric] for row in rows], **line, **filled)


def _draw_difference(axes: Axes, row: dict[Any, Any], height: int, look: Look) -> None:
    if np.isfinite([row["low"], row["high"]]).all():
        axes.plot([row["low"], row["high"]], [height, height], color=look.color, linewidth=1.4, zorder=2)
    face = look.color if row["verdict"] else "white"
    axes.plot(row["difference"], height, look.marker, color=look.color, markerfacecolor=face, markersize=6.5, zorder=3)
