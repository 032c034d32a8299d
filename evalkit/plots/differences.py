"""Differences to a baseline: one panel a metric, one row a system, with intervals and a line at zero."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from evalkit.plots.figures import Look, NothingToDraw, legend_columns, looks, present, styled, text_inches, wrap
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
    count, width = wrap(2, len(metrics))
    inches = 0.6 + text_inches(names) + 4.4 * width
    handles = _legend()
    columns = legend_columns([str(handle.get_label()) for handle in handles], inches)
    high = 0.8 + 0.2 * -(-len(handles) // columns) + count * (0.9 + 0.27 * len(names))
    figure = Figure(figsize=(inches, high), layout="constrained")
    figure.suptitle(title)
    system_looks = looks(systems)
    near = systems.loc[_competes(systems), "system"].tolist()
    first: Axes | None = None
    for position, metric in enumerate(metrics):
        axes = figure.add_subplot(count, width, position + 1, sharey=first)
        first = first or axes
        style = metric_format(metric)
        axes.set_title(f"{style.label} {style.arrow}".strip())
        axes.set_xlabel(f"difference ({style.unit})" if style.unit else "difference")
        if style.higher_is_better is not None:
            axes.set_xlabel(f"{axes.get_xlabel()}   {'better →' if style.higher_is_better else '← better'}")
        shown = rows[(rows["key"] == metric) & (rows["n"] > 0)]
        _set_limits(axes, shown, near)
        axes.axvline(0, color="#444444", linewidth=1.2, zorder=1)
        for record in shown.to_dict("records"):
            name = record["system"]
            ends = (record["difference"], record["low"], record["high"])
            _draw_row(axes, ends, names.index(name), bool(record["verdict"]), system_looks[name], style)
        axes.locator_params(axis="x", nbins=6)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0, labelleft=position % width == 0)
    assert first is not None
    first.set_yticks(range(len(names)), names)
    first.set_ylim(len(names) - 0.5, -0.5)  # the experiment's first system on top
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)
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


def _legend() -> list[Line2D]:
    grey = "#555555"
    filled = Line2D([], [], color=grey, marker="o", linestyle="-", label="differs (Holm p < 0.05), 95 % interval")
    hollow = Line2D([], [], color=grey, marker="o", markerfacecolor="white", linestyle="-", label="no difference found")
    beyond = Line2D([], [], color=grey, marker=">", linestyle="", label="beyond the panel")
    return [filled, hollow, beyond]
