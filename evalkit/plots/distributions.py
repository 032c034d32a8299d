"""Scores of the single utterances: a box and all points, one row a system, one panel a metric."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evalkit.figures.distributions import Scores, distribution_panel, scored_metrics
from evalkit.figures.looks import Look, NothingToDraw, looks, present
from evalkit.plots.figures import lighten, set_axis, styled, text_inches, wrap
from evalkit.plots.lettering import lettered

MAX_VECTOR_POINTS = 400  # more points of one system and metric are embedded as an image, or the SVG grows to megabytes


@styled
def plot_distributions(
    utterances: pd.DataFrame,
    systems: pd.DataFrame,
    title: str = "Scores of the single utterances",
    metrics: Sequence[str] | None = None,
) -> Figure:
    """One panel a metric, one row a system in the order of `systems`; rows of one data set.

    Box: quartiles and median, whiskers 5 % to 95 %, diamond: mean, dots: every utterance. On the right of each row
    n_ok/n_total; rows that are not ok are not drawn as numbers. Drawn are `metrics` (keys, see
    `evalkit.tables.metric_keys`), or all that have a score.

    Raises:
        NothingToDraw: no score is ok.
    """
    metrics = scored_metrics(utterances) if metrics is None else metrics
    if not metrics:
        raise NothingToDraw("no score is ok")
    names = present(utterances["system"].tolist(), systems)
    rows, width = wrap(2, len(metrics))
    figure = Figure(
        figsize=(0.5 + text_inches(names) + 4.6 * width, 1.3 + rows * (0.8 + 0.42 * len(names))), layout="constrained"
    )
    figure.suptitle(title)
    system_looks = looks(systems)
    first: Axes | None = None
    for position, metric in enumerate(metrics):
        axes = figure.add_subplot(rows, width, position + 1, sharey=first)
        first = first or axes
        panel = distribution_panel(utterances, metric, names)
        axes.set_title(f"{panel.metric.label} {panel.metric.arrow}".strip())
        axes.set_xlabel(panel.metric.unit or panel.metric.label)
        set_axis(axes, "x", panel.axis)
        for height, row in enumerate(panel.rows):
            _draw_row(axes, row, height, system_looks[row.system])
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0, labelleft=position % width == 0)
    assert first is not None
    first.set_yticks(range(len(names)), list(map(lettered, names)))
    first.set_ylim(len(names) - 0.5, -0.5)  # the experiment's first system on top
    figure.supxlabel(
        "box: quartiles and median; whiskers: 5 % to 95 %; diamond: mean; dots: utterances; right: scored/tried",
        fontsize=9,
    )
    return figure


def _draw_row(axes: Axes, row: Scores, height: int, look: Look) -> None:
    values = row.values
    label = f"{len(values):,}/{row.tried:,}"
    axes.text(1.01, height, label, transform=axes.get_yaxis_transform(), va="center", fontsize=8)
    if not len(values):
        return
    parts = axes.boxplot(
        values,
        positions=[height - 0.12],
        orientation="horizontal",
        widths=0.42,
        whis=(5, 95),
        showfliers=False,
        showmeans=True,
        patch_artist=True,
        manage_ticks=False,
        meanprops={"marker": "D", "markerfacecolor": "white", "markeredgecolor": "black", "markersize": 4.5},
        medianprops={"color": "black", "linewidth": 1.8},
        boxprops={"facecolor": lighten(look.color, 0.55), "hatch": look.hatch, "edgecolor": "#333333"},
    )
    for artist in parts["means"]:
        artist.set_zorder(4)
    jitter = np.random.default_rng(height).uniform(-0.09, 0.09, len(values))
    axes.scatter(
        values,
        height + 0.28 + jitter,
        s=5,
        color="#222222",
        alpha=0.45,
        linewidths=0,
        rasterized=len(values) > MAX_VECTOR_POINTS,
    )
