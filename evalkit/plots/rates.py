"""Quality against bit rate: one panel a metric, systems as points, known answers as labelled lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

from evalkit.plots.figures import (
    Look,
    NothingToDraw,
    legend_columns,
    log_axis,
    looks,
    spread,
    styled,
    text_inches,
    wrap,
)
from evalkit.tables import MetricFormat, is_ranked, metric_format, metric_names

LABEL_POINTS = 8.5
REACH = 0.4  # a reference at most this share of the systems' span away still gets its line
LOG_RATIO = 4.0  # bit rates further apart than this are drawn on a logarithmic axis
NEAR = 0.05  # rates this share of the axis apart would cover one another and are set side by side ...
STEP_POINTS = 8.0  # ... this far apart on paper


@styled
def plot_quality_against_rate(
    summary: pd.DataFrame, title: str = "Quality against bit rate", metrics: Sequence[str] | None = None
) -> Figure:
    """One panel a metric of one data set's `summary` (from `evalkit.tables.summarize`).

    Filled markers stand at the bit rate (kbit/s; nominal, or measured where a coder has no codebooks) with the mean's
    95 % interval, hollow ones at the entropy-coded rate of the same system. A line joins one codec at several rates.
    Systems of nearly equal rate are set side by side, and the axis says so. Anchors and systems without a bit rate are
    horizontal lines named on the right; those far outside the systems' range are named at the upper or lower edge with
    their value. Drawn are `metrics`, or all of `rated_metrics`.

    Raises:
        NothingToDraw: no system has both a bit rate and a score.
    """
    metrics = rated_metrics(summary) if metrics is None else metrics
    rated = _is_rated(summary)
    if not rated.any():
        raise NothingToDraw("no bit rates known")
    if not metrics:
        raise NothingToDraw("no system with a bit rate has a score")
    rows, width = wrap(2, len(metrics))
    system_looks = looks(summary)
    handles = _legend(summary[rated], system_looks)
    beside = text_inches(f"↑ {name} 0.000" for name in summary.loc[~rated, "system"])
    inches = 0.8 + (4.2 + beside) * width
    columns = legend_columns([str(handle.get_label()) for handle in handles], inches)
    legend_rows = -(-len(handles) // columns)
    figure = Figure(figsize=(inches, 1.0 + 0.2 * legend_rows + 3.9 * rows), layout="constrained")
    figure.suptitle(title)
    notes = []
    for position, name in enumerate(metrics):
        axes = figure.add_subplot(rows, width, position + 1)
        style = metric_format(name)
        axes.set_title(f"{style.label} {style.arrow}".strip())
        axes.set_ylabel(style.unit or style.label)
        axes.set_xlabel("bit rate (kbit/s)")
        _draw_systems(axes, summary[rated & summary[name].notna()], name, system_looks)
        references = summary[~rated & summary[name].notna()]
        notes.append((axes, _draw_references(axes, references, style, system_looks)))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)
    # Labels are put in place once the layout has said how high the panels are.
    figure.draw_without_rendering()
    for axes, labels in notes:
        _place(axes, labels)
    return figure


def rated_metrics(summary: pd.DataFrame) -> list[str]:
    """The metrics of which a system with a bit rate has a score, in order."""
    rated = _is_rated(summary)
    return [name for name in metric_names(summary) if summary.loc[rated, name].notna().any()]


def _is_rated(summary: pd.DataFrame) -> pd.Series:
    return is_ranked(summary) & summary["kbps"].notna()


def _draw_systems(axes: Axes, rows: pd.DataFrame, metric: str, system_looks: dict[str, Look]) -> None:
    _set_limits(axes, rows, metric)
    shifts = _side_by_side(axes, rows["kbps"].tolist())
    if any(shifts):
        axes.set_xlabel(f"bit rate (kbit/s); nearly equal ones moved {STEP_POINTS:g} pt apart")
    for _, several in rows[rows["codec"] != ""].sort_values("kbps").groupby("codec", sort=False):
        axes.plot(several["kbps"], several[metric], color="#999999", linewidth=1, zorder=1.5)
    for row, shift in zip(rows.to_dict("records"), shifts, strict=True):
        look = system_looks[row["system"]]
        where = axes.transData + ScaledTranslation(shift / 72, 0, axes.figure.dpi_scale_trans)
        rate, coded, mean = row["kbps"], row["entropy_kbps"], row[metric]
        below, above = mean - row[f"{metric}_low"], row[f"{metric}_high"] - mean
        if np.isfinite([below, above]).all():
            error = [[max(below, 0)], [max(above, 0)]]
            axes.errorbar(rate, mean, yerr=error, color=look.color, capsize=2.5, linewidth=1, zorder=2, transform=where)
        if np.isfinite(coded) and coded > 0:  # 0: a collapsed codebook, which has no place on the axis
            axes.plot([coded, rate], [mean, mean], color=look.color, linewidth=0.8, zorder=2, transform=where)
            hollow: dict[str, Any] = {"color": look.color, "markerfacecolor": "white", "markersize": 6.5}
            axes.plot(coded, mean, look.marker, zorder=3, transform=where, **hollow)
        filled: dict[str, Any] = {"color": look.color, "markeredgecolor": "white", "markeredgewidth": 0.5}
        axes.plot(rate, mean, look.marker, zorder=4, transform=where, **filled)


def _side_by_side(axes: Axes, rates: list[float]) -> list[float]:
    """Sideways shift of each system in points: none unless its rate is that of another within `NEAR` of the axis."""
    low, high = axes.transData.inverted().transform(axes.transAxes.transform([(0, 0), (NEAR, 0)]))[:, 0]
    logarithmic = axes.get_xscale() == "log"
    reach = np.log(high / low) if logarithmic else high - low
    places = np.log(rates) if logarithmic else np.asarray(rates)
    order = np.argsort(places, kind="stable")
    shifts = [0.0] * len(rates)
    groups = np.split(order, np.flatnonzero(np.diff(places[order]) > reach) + 1)
    for group in groups:
        for position, index in enumerate(group):
            shifts[index] = (position - (len(group) - 1) / 2) * STEP_POINTS
    return shifts


def _set_limits(axes: Axes, rows: pd.DataFrame, metric: str) -> None:
    """Limits around all rates and intervals, fixed before anything is drawn."""
    rates = rows[["kbps", "entropy_kbps"]].to_numpy(dtype=np.float64).ravel()
    rates = rates[np.isfinite(rates) & (rates > 0)]
    low, high = rates.min(), rates.max()
    if high / low > LOG_RATIO:
        log_axis(axes, "x", low / 1.25, high * 1.25)
    else:
        margin = max(0.15 * (high - low), 0.01 * high)
        axes.set_xlim(low - margin, high + margin)
        axes.locator_params(axis="x", nbins=6)
    ends = rows[[metric, f"{metric}_low", f"{metric}_high"]].to_numpy(dtype=np.float64)
    bottom, top = np.nanmin(ends), np.nanmax(ends)
    margin = 0.1 * (top - bottom) if top > bottom else max(abs(top) * 0.05, 1e-3)
    axes.set_ylim(bottom - margin, top + margin)


def _draw_references(
    axes: Axes, rows: pd.DataFrame, style: MetricFormat, system_looks: dict[str, Look]
) -> list[tuple[float, str]]:
    """Draw the lines within reach; return (height, text) of every reference, heights beyond the panel included."""
    bottom, top = axes.get_ylim()
    reach = REACH * (top - bottom)
    near = [value for value in rows[style.name] if bottom - reach <= value <= top + reach]
    if near:
        margin = 0.05 * (top - bottom)
        bottom, top = min(bottom, min(near) - margin), max(top, max(near) + margin)
        axes.set_ylim(bottom, top)
    labels = []
    for row in rows.to_dict("records"):
        value = row[style.name]
        inside = bottom <= value <= top
        if inside:
            look = system_looks[row["system"]]
            axes.axhline(value, color=look.color, linestyle=look.line, linewidth=1.1, zorder=1)
        arrow = "" if inside else ("↑ " if value > top else "↓ ")
        labels.append((value, f"{arrow}{row['system']} {value:.{style.decimals}f}"))
    return labels


def _place(axes: Axes, labels: list[tuple[float, str]]) -> None:
    """Write the labels right of the panel, apart from one another, each joined to its height."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    height_points = axes.get_window_extent().height * 72 / figure.dpi
    bottom, top = axes.get_ylim()
    heights = np.array([np.clip((value - bottom) / (top - bottom), 0, 1) for value, _ in labels])
    # Beyond the edge the order is still that of the values, so sort ties by them.
    order = sorted(range(len(labels)), key=lambda index: labels[index][0])
    placed = spread(heights[order], 1.3 * LABEL_POINTS / height_points, 0.0, 1.0)
    for index, height in zip(order, placed, strict=True):
        value, text = labels[index]
        if bottom <= value <= top:
            line = Line2D([1.0, 1.025], [heights[index], height], color="#444444", linewidth=0.7)
            line.set(transform=axes.transAxes, clip_on=False)
            axes.add_artist(line)
        axes.text(1.035, height, text, transform=axes.transAxes, fontsize=LABEL_POINTS, va="center")


def _legend(rows: pd.DataFrame, system_looks: dict[str, Look]) -> list[Line2D]:
    handles = []
    for name in rows["system"]:
        look = system_looks[name]
        handles.append(Line2D([], [], color=look.color, marker=look.marker, linestyle="", label=name))
    grey = "#555555"
    handles.append(Line2D([], [], color=grey, marker="o", linestyle="", label="bit rate, 95 % interval"))
    if rows["entropy_kbps"].notna().any():
        hollow = Line2D([], [], color=grey, marker="o", linestyle="", markerfacecolor="white")
        hollow.set_label("entropy-coded rate")
        handles.append(hollow)
    return handles
