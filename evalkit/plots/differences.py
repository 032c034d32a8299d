"""Differences to a baseline: one panel a metric, one row a system, with intervals and a line at zero."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from evalkit.plots.figures import Look, NothingToDraw, looks, present, styled
from evalkit.plots.forest import GREY, forest_panels, found, not_found
from evalkit.tables import MetricFormat, metric_format, metric_keys

REACH = 1.0  # an anchor at most this share of the other systems' span away still widens the panel


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
    rows = differences.assign(key=metric_keys(differences))
    metrics = compared_metrics(differences) if metrics is None else metrics
    if not metrics:
        raise NothingToDraw("no utterance was scored of both a system and the baseline")
    names = present(rows.loc[rows["n"] > 0, "system"].tolist(), systems)
    beyond = Line2D([], [], color=GREY, marker=">", linestyle="", label="beyond the panel")
    figure, panels = forest_panels(title, metrics, names, [found(), not_found("no difference found"), beyond], 2, 4.4)
    system_looks = looks(systems)
    near = systems.loc[_competes(systems), "system"].tolist()
    for axes, metric in zip(panels, metrics, strict=True):
        shown = rows[(rows["key"] == metric) & (rows["n"] > 0)]
        _set_limits(axes, shown, near)
        for record in shown.to_dict("records"):
            name = record["system"]
            ends = (record["difference"], record["low"], record["high"])
            style = metric_format(metric)
            _draw_row(axes, ends, names.index(name), bool(record["verdict"]), system_looks[name], style)
    return figure


def compared_metrics(differences: pd.DataFrame) -> list[str]:
    """The keys of the metrics with at least one comparison, in order."""
    return list(dict.fromkeys(metric_keys(differences)[differences["n"] > 0]))


def _competes(systems: pd.DataFrame) -> pd.Series:
    """Codecs with codes, and folders: what the panel is scaled for."""
    return (systems["kind"] == "folder") | ((systems["kind"] == "codec") & (systems["bitrate"].fillna(0) > 0))


def _set_limits(axes: Axes, shown: pd.DataFrame, near: list[str]) -> None:
    """Zero and the intervals of the systems in `near`, and what lies close to them."""
    main = shown[shown["system"].isin(near)]
    main = main if len(main) else shown
    ends = np.nan_to_num(np.concatenate([main[name].to_numpy(float) for name in ("difference", "low", "high")]))
    low, high = min(0.0, float(ends.min())), max(0.0, float(ends.max()))
    reach = REACH * (high - low)
    others = shown[(shown["difference"] >= low - reach) & (shown["difference"] <= high + reach)]
    low = min(low, float(others["low"].fillna(0).min())) if len(others) else low
    high = max(high, float(others["high"].fillna(0).max())) if len(others) else high
    margin = 0.08 * (high - low) or 1e-3
    axes.set_xlim(low - margin, high + margin)


def _draw_row(
    axes: Axes, ends: tuple[float, float, float], height: int, found: bool, look: Look, style: MetricFormat
) -> None:
    difference, low, high = ends
    left, right = axes.get_xlim()
    face = look.color if found else "white"
    if not left <= difference <= right:
        above = difference > right
        edge, away = (0.985, -6) if above else (0.015, 6)
        axes.plot(
            edge, height, ">" if above else "<", color=look.color, markerfacecolor=face, markersize=6.5,
            transform=axes.get_yaxis_transform(), zorder=3,
        )  # fmt: skip
        axes.annotate(
            f"{difference:+.{style.decimals}f}", (edge, height), xytext=(away, 0), textcoords="offset points",
            xycoords=axes.get_yaxis_transform(), ha="right" if above else "left", va="center", fontsize=8,
        )  # fmt: skip
        return
    if np.isfinite([low, high]).all():
        axes.plot([low, high], [height, height], color=look.color, linewidth=1.4, zorder=2)
    axes.plot(difference, height, "o", color=look.color, markerfacecolor=face, markersize=6.5, zorder=3)
