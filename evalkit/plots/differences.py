"""Differences to a baseline: one panel a metric, one row a system, with intervals and a line at zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from evalkit.figures.differences import DifferencePanel, compared_metrics, competing, difference_panel
from evalkit.figures.looks import Look, NothingToDraw, looks, present
from evalkit.plots.figures import set_axis, styled
from evalkit.plots.forest import GREY, forest_panels, found, not_found


@styled
def plot_differences(
    differences: pd.DataFrame,
    systems: pd.DataFrame,
    title: str = "Differences to the baseline",
    metrics: Sequence[str] | None = None,
) -> Figure:
    """A forest plot of one data set's `differences` (from `evalkit.tables.compare_with_baseline`).

    One row a system in the order of `systems`; point: mean difference, system minus baseline, with its 95 % interval;
    filled where it is significant. Known answers and systems without codes that lie far outside the others are named
    at the edge with their value. Drawn are `metrics` (keys), or all of `compared_metrics`.

    Raises:
        NothingToDraw: no utterance was scored of both a system and the baseline.
    """
    metrics = compared_metrics(differences) if metrics is None else metrics
    if not metrics:
        raise NothingToDraw("no utterance was scored of both a system and the baseline")
    names = present(differences.loc[differences["n"] > 0, "system"].tolist(), systems)
    beyond = Line2D([], [], color=GREY, marker=">", linestyle="", label="beyond the panel")
    figure, axes_of = forest_panels(title, metrics, names, [found(), not_found("no difference found"), beyond], 2, 4.4)
    system_looks = looks(systems)
    near = competing(systems)
    for axes, metric in zip(axes_of, metrics, strict=True):
        panel = difference_panel(differences, metric, near)
        set_axis(axes, "x", panel.axis)
        for row in panel.rows:
            _draw_row(axes, row, names.index(row["system"]), system_looks[row["system"]], panel)
    return figure


def _draw_row(axes: Axes, row: Mapping[Any, Any], height: int, look: Look, panel: DifferencePanel) -> None:
    difference, low, high = row["difference"], row["low"], row["high"]
    face = look.color if row["verdict"] else "white"
    if not panel.axis.holds(difference):
        above = difference > panel.axis.high
        edge, away = (0.985, -6) if above else (0.015, 6)
        axes.plot(
            edge, height, ">" if above else "<", color=look.color, markerfacecolor=face, markersize=6.5,
            transform=axes.get_yaxis_transform(), zorder=3,
        )  # fmt: skip
        axes.annotate(
            f"{difference:+.{panel.metric.decimals}f}", (edge, height), xytext=(away, 0), textcoords="offset points",
            xycoords=axes.get_yaxis_transform(), ha="right" if above else "left", va="center", fontsize=8,
        )  # fmt: skip
        return
    if np.isfinite([low, high]).all():
        axes.plot([low, high], [height, height], color=look.color, linewidth=1.4, zorder=2)
    axes.plot(difference, height, "o", color=look.color, markerfacecolor=face, markersize=6.5, zorder=3)
