"""Quality against bit rate: one panel a metric, systems as points, known answers as labelled lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

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
from evalkit.plots.lettering import add_legend, legible, lettered
from evalkit.tables import MetricFormat, is_ranked, metric_format, metric_names

LABEL_POINTS = 8.5
REACH = 0.4  # a reference at most this share of the systems' span away still gets its line
LOG_RATIO = 4.0  # bit rates further apart than this are drawn on a logarithmic axis
PANEL_POINTS = (235.0, 215.0)  # about the width and height of a panel on paper
REACH_POINTS = 5.0  # points nearer to one another cover one another: the lower ones are larger, ring upon ring
LEAST_POINTS, RING_POINTS = 7.0, 4.5  # diameter of a point, and what each level below adds


@styled
def plot_quality_against_rate(
    summary: pd.DataFrame, title: str = "Quality against bit rate", metrics: Sequence[str] | None = None
) -> Figure:
    """One panel a metric of one data set's `summary` (from `evalkit.tables.summarize`).

    Filled markers stand at the bit rate (kbit/s; nominal, or measured where a coder has no codebooks) with the mean's
    95 % interval, hollow ones at the entropy-coded rate of the same system. A line joins one codec at several rates.
    All are at their true places; a point that others cover is larger. Anchors and systems without a bit rate are
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
        systems = summary[rated & summary[name].notna()]
        _set_limits(axes, systems, name)
        references = summary[~rated & summary[name].notna()]
        notes.append((axes, _draw_references(axes, references, style, system_looks)))
        _draw_systems(axes, systems, name, system_looks)
    add_legend(figure, handles, loc="outside lower center", ncols=columns)
    # Labels are put in place once the layout has said how high the panels are.
    legible(figure).draw_without_rendering()
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
    rows = rows.sort_values("kbps", kind="stable")
    places = _paper_points(axes, rows["kbps"].tolist(), rows[metric].tolist())
    sizes = levels(places, REACH_POINTS)
    caps = levels(places * (1, 0), REACH_POINTS)
    if any(sizes):
        axes.set_xlabel("bit rate (kbit/s); covered points are larger")
    for _, several in rows[rows["codec"] != ""].sort_values("kbps").groupby("codec", sort=False):
        axes.plot(several["kbps"], several[metric], color="#999999", linewidth=1, zorder=1.5)
    for row, size, cap in zip(rows.to_dict("records"), sizes, caps, strict=True):
        look = system_looks[row["system"]]
        rate, coded, mean = row["kbps"], row["entropy_kbps"], row[metric]
        below, above = mean - row[f"{metric}_low"], row[f"{metric}_high"] - mean
        if np.isfinite([below, above]).all():
            error = [[max(below, 0)], [max(above, 0)]]
            axes.errorbar(rate, mean, yerr=error, color=look.color, capsize=2.5 + 2 * cap, linewidth=1, zorder=2)
        if np.isfinite(coded) and coded > 0:  # 0: a collapsed codebook, which has no place on the axis
            axes.plot([coded, rate], [mean, mean], color=look.color, linewidth=0.8, zorder=2)
            hollow: dict[str, Any] = {"color": look.color, "markerfacecolor": "white", "markersize": 6.5}
            axes.plot(coded, mean, look.marker, zorder=3, **hollow)
        filled: dict[str, Any] = {"color": look.color, "markeredgecolor": "white", "markeredgewidth": 0.5}
        width = LEAST_POINTS + RING_POINTS * size
        axes.plot(rate, mean, look.marker, markersize=width, zorder=5 - 0.1 * size, **filled)


def levels(places: NDArray[np.float64], reach: float) -> list[int]:
    """For each of `places` (n, 2) the least number that no earlier one within `reach` has: 0 where it covers none."""
    found: list[int] = []
    for index, place in enumerate(places):
        near = np.hypot(*(places[:index] - place).T) < reach
        taken = {found[other] for other in np.flatnonzero(near)}
        found.append(next(level for level in range(index + 1) if level not in taken))
    return found


def _paper_points(axes: Axes, rates: Sequence[float], means: Sequence[float]) -> NDArray[np.float64]:
    """Where points are on paper, (n, 2) in printer's points, before the layout has said it exactly."""
    places = axes.transAxes.inverted().transform(axes.transData.transform(np.column_stack([rates, means])))
    return np.asarray(places * PANEL_POINTS)


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
        labels.append((value, f"{arrow}{lettered(row['system'])} {value:.{style.decimals}f}"))
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
