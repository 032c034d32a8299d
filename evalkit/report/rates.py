"""Quality against bit rate: systems as points, those without a rate as lines named on the right."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from markupsafe import Markup

from evalkit.figures.looks import spread
from evalkit.figures.rates import Level, RatePanel, RatePoint, cover_levels, is_rated, rate_panel, rated_metrics
from evalkit.report.charts import Chart, Panel, SystemLook, interval_text, marker_sample, number_text
from evalkit.report.svg import Scale, bottom_axis, drawing, left_axis, line, marker, tag, text
from evalkit.tables.cells import format_number
from evalkit.tables.summary import MetricFormat
from evalkit.text import isolated, plain, shortened

WIDTH, HEIGHT = 760.0, 420.0
LEFT, RIGHT, TOP, BOTTOM = 58.0, 530.0, 34.0, 372.0
NAME = 22  # characters of a name on the right
REACH_PIXELS = 8.0  # points nearer to one another cover one another: the lower ones are larger
EXPLAINED = (
    "Points: mean over the utterances at the bit rate (nominal, or measured where a coder has no codebooks); bars: "
    "95 % interval. Lines: known answers and systems without a bit rate; with ↑ or ↓ beyond the panel."
)
EXPLAINED_SWEEP = (
    "Points: a configuration's mean over seeds and utterances at its nominal bit rate; bars: 95 % interval over both, "
    "which overlap even where a difference is sure. Lines join the configurations of one series."
)
HEAD = ("System", "kbit/s", "coded kbit/s", "Mean", "95 % interval", "n")


def rates_chart(
    summary: pd.DataFrame, systems: Mapping[str, SystemLook], entries: Mapping[str, str] | None = None
) -> Chart:
    """A panel a data set and metric with a rated system.

    Args:
        summary: from `evalkit.tables.summarize`, or the same columns of a sweep's configurations.
        systems: how each is drawn.
        entries: of a sweep, configuration -> series; those of one series look alike and share an entry of the legend.
    """
    panels: list[Panel] = []
    several = summary["dataset"].nunique() > 1
    for dataset, rows in summary.groupby("dataset", sort=False):
        for key in rated_metrics(rows):
            model = rate_panel(rows, key)
            label = f"{model.metric.label}, {plain(str(dataset))}" if several else model.metric.label
            panels.append(_panel(f"rates-{len(panels)}", label, model, systems))
    if not panels:
        return Chart("rates", "Quality against bit rate", missing="no system has both a bit rate and a score")
    rated = summary[is_rated(summary)].drop_duplicates("system")
    shown = {name: name for name in rated["system"]} if entries is None else entries
    looks = {shown[name]: systems[name] for name in rated["system"]}
    legend = [(marker_sample(look), plain(name)) for name, look in looks.items()]
    if (rated["entropy_kbps"] > 0).any():
        example = systems[rated["system"].iloc[0]]
        legend.append((marker_sample(example, hollow=True), "hollow: the same system at its entropy-coded rate"))
    return Chart(
        "rates",
        "Quality against bit rate",
        "Metric",
        EXPLAINED if entries is None else EXPLAINED_SWEEP,
        tuple(panels),
        tuple(legend),
    )


def _panel(identity: str, label: str, model: RatePanel, systems: Mapping[str, SystemLook]) -> Panel:
    points, style = model.points, model.metric
    x, y = Scale(model.rates, LEFT, RIGHT), Scale(model.quality, BOTTOM, TOP)
    places = np.array([(x(point.rate), y(point.mean)) for point in points]).reshape(-1, 2)
    sizes, caps = cover_levels(places, REACH_PIXELS), cover_levels(places * (1, 0), REACH_PIXELS)
    axis = "bit rate (kbit/s)" + ("; points that others cover are larger" if any(sizes) else "")
    parts = [left_axis(y, LEFT, RIGHT, f"{style.heading} {style.arrow}".strip()), bottom_axis(x, TOP, BOTTOM, axis)]
    parts += _references(model, y, systems)
    for several in model.joined():
        joined = "L".join(f"{x(point.rate):.1f} {y(point.mean):.1f}" for point in several)
        parts.append(tag("path", d=f"M{joined}", class_="join"))
    drawn = sorted(zip(points, sizes, caps, strict=True), key=lambda each: -each[1])  # the largest below
    for point, size, cap in drawn:
        parts.append(_point(point, x, y, (size, cap), style, systems[point.system]))
    told = (
        f"{len(points)} systems by bit rate, {len(model.references)} without one. The table below has the same numbers."
    )
    return Panel(
        label,
        drawing(identity, WIDTH, HEIGHT, f"{style.label} against bit rate", told, *parts, tips=True),
        HEAD,
        [_line(level, style) for level in (*points, *model.references)],
    )


def _point(
    point: RatePoint, x: Scale, y: Scale, below: tuple[int, int], style: MetricFormat, look: SystemLook
) -> Markup:
    """One system; `below`: how many points lie above its own, and how many bars are drawn narrower than its own."""
    across, down = x(point.rate), y(point.mean)
    parts = []
    if math.isfinite(point.low) and math.isfinite(point.high):
        ends = [y(point.low), y(point.high)]
        parts.append(line(across, ends[0], across, ends[1], class_=f"bar {look.color}"))
        half = 3 + 2.5 * below[1]
        parts += [line(across - half, end, across + half, end, class_=f"bar {look.color}") for end in ends]
    if point.coded > 0:  # 0: a collapsed codebook, which has no place on the axis
        parts.append(line(x(point.coded), down, across, down, class_=f"thin {look.color}"))
        parts.append(marker(look.shape, x(point.coded), down, 5, class_=f"point hollow {look.color}"))
    parts.append(marker(look.shape, across, down, 6.5 + 4 * below[0], class_=f"point {look.color}"))
    coded = f", entropy-coded {point.coded:.3f} kbit/s" if point.coded > 0 else ""
    tip = f"{isolated(point.system)}\n{_mean_text(point, style)}\n{point.rate:.3f} kbit/s{coded}"
    return tag("g", *parts, data_tip=tip)


def _references(model: RatePanel, y: Scale, systems: Mapping[str, SystemLook]) -> list[Markup]:
    style = model.metric
    order = sorted(model.references, key=lambda level: -level.mean)
    heights = [min(max(y(level.mean), TOP), BOTTOM) for level in order]
    placed = spread(np.array(heights), 16.0, TOP, BOTTOM)
    parts = []
    for level, height, label in zip(order, heights, placed, strict=True):
        look = systems[level.system]
        drawn: list[Markup] = []
        arrow = ""
        if model.quality.holds(level.mean):
            drawn.append(line(LEFT, height, RIGHT, height, class_=f"line {look.color} {look.dashes}"))
            drawn.append(line(RIGHT, height, RIGHT + 12, float(label), class_="thin g1"))
        else:
            arrow = "↑ " if (height <= TOP) else "↓ "
        number = format_number(level.mean, style.decimals)
        drawn.append(text(RIGHT + 16, float(label) + 4, f"{arrow}{shortened(level.system, NAME)} {number}"))
        tip = f"{isolated(level.system)}, without a bit rate\n{_mean_text(level, style)}"
        parts.append(tag("g", *drawn, data_tip=tip))
    return parts


def _mean_text(level: Level, style: MetricFormat) -> str:
    mean = format_number(level.mean, style.decimals)
    return f"{style.label} {mean}, 95 % interval {interval_text(level.low, level.high, style.decimals)}, n {level.n:,}"


def _line(level: Level, style: MetricFormat) -> list[str]:
    rates = (level.rate, level.coded) if isinstance(level, RatePoint) else (math.nan, math.nan)
    return [
        level.system,
        *(number_text(rate, 3) for rate in rates),
        format_number(level.mean, style.decimals),
        interval_text(level.low, level.high, style.decimals),
        f"{level.n:,}",
    ]
