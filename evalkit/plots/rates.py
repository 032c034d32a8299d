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

from evalkit.figures.looks import Look, NothingToDraw, looks, spread
from evalkit.figures.rates import RatePanel, cover_levels, is_rated, rate_panel, rated_metrics
from evalkit.plots.figures import legend_columns, set_axis, styled, text_inches, wrap
from evalkit.plots.lettering import add_legend, legible, lettered

LABEL_POINTS = 8.5
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
    rated = is_rated(summary)
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
        panel = rate_panel(summary, name)
        axes.set_title(f"{panel.metric.label} {panel.metric.arrow}".strip())
        axes.set_ylabel(panel.metric.unit or panel.metric.label)
        axes.set_xlabel("bit rate (kbit/s)")
        set_axis(axes, "x", panel.rates)
        if not panel.rates.logarithmic:
            axes.locator_params(axis="x", nbins=6)
        set_axis(axes, "y", panel.quality)
        notes.append((axes, _draw_references(axes, panel, system_looks)))
        _draw_points(axes, panel, system_looks)
    add_legend(figure, handles, loc="outside lower center", ncols=columns)
    # Labels are put in place once the layout has said how high the panels are.
    legible(figure).draw_without_rendering()
    for axes, labels in notes:
        _place(axes, labels)
    return figure


def _draw_points(axes: Axes, panel: RatePanel, system_looks: dict[str, Look]) -> None:
    points = panel.points
    places = _paper_points(axes, [point.rate for point in points], [point.mean for point in points])
    sizes = cover_levels(places, REACH_POINTS)
    caps = cover_levels(places * (1, 0), REACH_POINTS)
    if any(sizes):
        axes.set_xlabel("bit rate (kbit/s); covered points are larger")
    for several in panel.joined():
        axes.plot([p.rate for p in several], [p.mean for p in several], color="#999999", linewidth=1, zorder=1.5)
    for point, size, cap in zip(points, sizes, caps, strict=True):
        look = system_looks[point.system]
        below, above = point.mean - point.low, point.high - point.mean
        if np.isfinite([below, above]).all():
            error = [[max(below, 0)], [max(above, 0)]]
            axes.errorbar(
                point.rate, point.mean, yerr=error, color=look.color, capsize=2.5 + 2 * cap, linewidth=1, zorder=2
            )
        if point.coded > 0:  # 0: a collapsed codebook, which has no place on the axis
            axes.plot([point.coded, point.rate], [point.mean, point.mean], color=look.color, linewidth=0.8, zorder=2)
            hollow: dict[str, Any] = {"color": look.color, "markerfacecolor": "white", "markersize": 6.5}
            axes.plot(point.coded, point.mean, look.marker, zorder=3, **hollow)
        filled: dict[str, Any] = {"color": look.color, "markeredgecolor": "white", "markeredgewidth": 0.5}
        width = LEAST_POINTS + RING_POINTS * size
        axes.plot(point.rate, point.mean, look.marker, markersize=width, zorder=5 - 0.1 * size, **filled)


def _paper_points(axes: Axes, rates: Sequence[float], means: Sequence[float]) -> NDArray[np.float64]:
    """Where points are on paper, (n, 2) in printer's points, before the layout has said it exactly."""
    places = axes.transAxes.inverted().transform(axes.transData.transform(np.column_stack([rates, means])))
    return np.asarray(places * PANEL_POINTS)


def _draw_references(axes: Axes, panel: RatePanel, system_looks: dict[str, Look]) -> list[tuple[float, str]]:
    """Draw the lines within the panel; return (height, text) of every reference, those beyond it included."""
    labels = []
    for level in panel.references:
        inside = panel.quality.holds(level.mean)
        if inside:
            look = system_looks[level.system]
            axes.axhline(level.mean, color=look.color, linestyle=look.line, linewidth=1.1, zorder=1)
        arrow = "" if inside else ("↑ " if level.mean > panel.quality.high else "↓ ")
        labels.append((level.mean, f"{arrow}{lettered(level.system)} {level.mean:.{panel.metric.decimals}f}"))
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
