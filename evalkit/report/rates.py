"""Quality against bit rate: systems as points, those without a rate as lines named on the right."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from evalkit.plots.figures import spread
from evalkit.plots.rates import LOG_RATIO, levels, rated_metrics
from evalkit.report.charts import Chart, Panel, SystemLook, interval_text, marker_sample, number_text
from evalkit.report.svg import Scale, bottom_axis, drawing, left_axis, line, margin, marker, tag, text
from evalkit.tables.cells import format_number, is_ranked
from evalkit.tables.summary import MetricFormat, metric_format
from evalkit.text import isolated, plain, shortened

WIDTH, HEIGHT = 760.0, 420.0
LEFT, RIGHT, TOP, BOTTOM = 58.0, 530.0, 34.0, 372.0
NAME = 22  # characters of a name on the right
REACH_PIXELS = 8.0  # points nearer to one another cover one another: the lower ones are larger
REACH = 0.4  # a reference at most this share of the systems' span away still gets its line
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
            style = metric_format(key)
            label = f"{style.label}, {plain(str(dataset))}" if several else style.label
            panels.append(_panel(f"rates-{len(panels)}", label, rows, style, systems))
    if not panels:
        return Chart("rates", "Quality against bit rate", missing="no system has both a bit rate and a score")
    rated = summary[_rated(summary)].drop_duplicates("system")
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


def _rated(summary: pd.DataFrame) -> pd.Series:
    return is_ranked(summary) & summary["kbps"].notna()


def _panel(
    identity: str, label: str, rows: pd.DataFrame, style: MetricFormat, systems: Mapping[str, SystemLook]
) -> Panel:
    key = style.name
    needed = ["system", "kind", "codec", "kbps", "entropy_kbps", key, f"{key}_low", f"{key}_high", f"{key}_n_ok"]
    scored = rows.loc[rows[key].notna(), needed]
    points = scored[_rated(scored)].sort_values("kbps").to_dict("records")
    references = scored[~_rated(scored)].to_dict("records")
    x = _rate_scale(points)
    y, near = _quality_scale(points, references, key)
    heading = f"{style.heading} {style.arrow}".strip()
    places = np.array([(x(record["kbps"]), y(record[key])) for record in points]).reshape(-1, 2)
    sizes, caps = levels(places, REACH_PIXELS), levels(places * (1, 0), REACH_PIXELS)
    axis = "bit rate (kbit/s)" + ("; points that others cover are larger" if any(sizes) else "")
    parts = [left_axis(y, LEFT, RIGHT, heading), bottom_axis(x, TOP, BOTTOM, axis)]
    parts += _references(references, near, y, style, systems)
    parts += _joins(points, x, y, key)
    drawn = sorted(zip(points, sizes, caps, strict=True), key=lambda each: -each[1])  # the largest below
    for record, size, cap in drawn:
        parts.append(_point(record, x, y, (size, cap), style, systems[record["system"]]))
    best = f"{len(points)} systems by bit rate, {len(references)} without one. The table below has the same numbers."
    return Panel(
        label,
        drawing(identity, WIDTH, HEIGHT, f"{style.label} against bit rate", best, *parts, tips=True),
        HEAD,
        [_line(record, style) for record in [*points, *references]],
    )


def _rate_scale(points: Sequence[Mapping[Any, Any]]) -> Scale:
    rates = [value for record in points for value in (record["kbps"], record["entropy_kbps"]) if value > 0]
    low, high = min(rates), max(rates)
    if high / low > LOG_RATIO:
        return Scale(low / 1.25, high * 1.25, LEFT, RIGHT, logarithmic=True)
    room = max(0.15 * (high - low), 0.01 * high)
    return Scale(low - room, high + room, LEFT, RIGHT)


def _quality_scale(
    points: Sequence[Mapping[Any, Any]], references: Sequence[Mapping[Any, Any]], key: str
) -> tuple[Scale, list[bool]]:
    """The scale around all points, and which references are within it."""
    ends = [record[name] for record in points for name in (key, f"{key}_low", f"{key}_high")]
    ends = [value for value in ends if math.isfinite(value)]
    low, high = margin(min(ends), max(ends), 0.1)
    reach = REACH * (high - low)
    near = [low - reach <= record[key] <= high + reach for record in references]
    inside = [record[key] for record, is_near in zip(references, near, strict=True) if is_near]
    room = 0.05 * (high - low)
    low, high = min([low, *(value - room for value in inside)]), max([high, *(value + room for value in inside)])
    return Scale(low, high, BOTTOM, TOP), near


def _joins(points: Sequence[Mapping[Any, Any]], x: Scale, y: Scale, key: str) -> list[Markup]:
    """A line through one codec at several rates."""
    families: dict[str, list[str]] = {}
    for record in points:
        if record["codec"]:
            families.setdefault(record["codec"], []).append(f"{x(record['kbps']):.1f} {y(record[key]):.1f}")
    return [tag("path", d=f"M{'L'.join(places)}", class_="join") for places in families.values() if len(places) > 1]


def _point(
    record: Mapping[Any, Any], x: Scale, y: Scale, below: tuple[int, int], style: MetricFormat, look: SystemLook
) -> Markup:
    """One system; `below`: how many points lie above its own, and how many bars are drawn narrower than its own."""
    key, rate, coded = style.name, record["kbps"], record["entropy_kbps"]
    across, down = x(rate), y(record[key])
    low, high = record[f"{key}_low"], record[f"{key}_high"]
    parts = []
    if math.isfinite(low) and math.isfinite(high):
        parts.append(line(across, y(low), across, y(high), class_=f"bar {look.color}"))
        half = 3 + 2.5 * below[1]
        parts += [line(across - half, y(end), across + half, y(end), class_=f"bar {look.color}") for end in (low, high)]
    if coded > 0:  # 0: a collapsed codebook, which has no place on the axis
        parts.append(line(x(coded), down, across, down, class_=f"thin {look.color}"))
        parts.append(marker(look.shape, x(coded), down, 5, class_=f"point hollow {look.color}"))
    parts.append(marker(look.shape, across, down, 6.5 + 4 * below[0], class_=f"point {look.color}"))
    tip = [
        isolated(record["system"]),
        f"{style.label} {format_number(record[key], style.decimals)}, 95 % interval "
        f"{interval_text(low, high, style.decimals)}, n {record[f'{key}_n_ok']:,}",
        f"{rate:.3f} kbit/s" + (f", entropy-coded {coded:.3f} kbit/s" if coded > 0 else ""),
    ]
    return tag("g", *parts, data_tip="\n".join(tip))


def _references(
    references: Sequence[Mapping[Any, Any]],
    near: Sequence[bool],
    y: Scale,
    style: MetricFormat,
    systems: Mapping[str, SystemLook],
) -> list[Markup]:
    order = sorted(range(len(references)), key=lambda index: -references[index][style.name])
    heights = [min(max(y(references[index][style.name]), TOP), BOTTOM) for index in order]
    placed = spread(np.array(heights), 16.0, TOP, BOTTOM)
    parts = []
    for index, height, label in zip(order, heights, placed, strict=True):
        record = references[index]
        value, look = record[style.name], systems[record["system"]]
        drawn: list[Markup] = []
        arrow = ""
        if near[index]:
            drawn.append(line(LEFT, height, RIGHT, height, class_=f"line {look.color} {look.dashes}"))
            drawn.append(line(RIGHT, height, RIGHT + 12, float(label), class_="thin g1"))
        else:
            arrow = "↑ " if (height <= TOP) else "↓ "
        number = format_number(value, style.decimals)
        drawn.append(text(RIGHT + 16, float(label) + 4, f"{arrow}{shortened(record['system'], NAME)} {number}"))
        interval = interval_text(record[f"{style.name}_low"], record[f"{style.name}_high"], style.decimals)
        tip = f"{isolated(record['system'])}, without a bit rate\n{style.label} {number}, 95 % interval {interval}"
        parts.append(tag("g", *drawn, data_tip=f"{tip}, n {record[f'{style.name}_n_ok']:,}"))
    return parts


def _line(record: Mapping[Any, Any], style: MetricFormat) -> list[str]:
    key = style.name
    return [
        record["system"],
        number_text(record["kbps"], 3),
        number_text(record["entropy_kbps"], 3),
        format_number(record[key], style.decimals),
        interval_text(record[f"{key}_low"], record[f"{key}_high"], style.decimals),
        f"{record[f'{key}_n_ok']:,}",
    ]
