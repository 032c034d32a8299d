"""Charts with one row a system: the single utterances' scores, and the differences to the baseline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from numpy.typing import NDArray

from evalkit.plots.distributions import scored_metrics
from evalkit.report.charts import Chart, Panel, SystemLook
from evalkit.report.svg import Scale, bottom_axis, drawing, line, margin, marker, tag, text
from evalkit.tables.cells import MARKS, format_number
from evalkit.tables.differences import HEAD, difference_texts
from evalkit.tables.summary import MetricFormat, metric_format, metric_keys
from evalkit.text import isolated, plain, shortened

WIDTH, LEFT, RIGHT, TOP, ROW = 760.0, 206.0, 660.0, 12.0, 30.0
NAME = 24  # characters of a system's name
MAX_DOTS = 14_000  # of all panels: more of them would make the page megabytes
LEAST_DOTS = 20
BOX = 9.0  # half of its height
REACH = 1.0  # an anchor at most this share of the other systems' span away still widens the panel
SCORES = ("System", "n", "Mean", "5 %", "25 %", "Median", "75 %", "95 %", "Lowest", "Highest")


def distributions_chart(utterances: pd.DataFrame, systems: Mapping[str, SystemLook]) -> Chart:
    """A panel a data set and metric with a score; `utterances` with the column `key` (see `Joined`)."""
    title = "Scores of the single utterances"
    ok = utterances[(utterances["status"] == "ok") & np.isfinite(utterances["value"].astype(float))]
    if ok.empty:
        return Chart("scores", title, missing="no score is ok")
    groups = ok.groupby(["dataset", "key", "system"], sort=False).ngroups
    most = max(LEAST_DOTS, MAX_DOTS // groups // 2 * 2)  # half of them from each end
    several = ok["dataset"].nunique() > 1
    panels: list[Panel] = []
    for dataset, rows in ok.groupby("dataset", sort=False):
        for key in scored_metrics(rows.assign(metric=rows["key"]).drop(columns="protocol", errors="ignore")):
            style = metric_format(key)
            label = f"{style.label}, {plain(str(dataset))}" if several else style.label
            scores = rows.loc[rows["key"] == key, ["system", "utterance", "value"]]
            panels.append(_distribution(f"scores-{len(panels)}", label, scores, style, systems, most))
    largest = int(ok.groupby(["dataset", "key", "system"], sort=False).size().max())
    dots = "every utterance" if largest <= most else f"of each system the {most} utterances at the ends"
    return Chart(
        "scores",
        title,
        "Metric",
        "Box: quartiles and median; whiskers: 5 % to 95 %; diamond: mean; "
        f"dots: {dots}; on the right: scored utterances.",
        tuple(panels),
    )


def _distribution(
    identity: str, label: str, scores: pd.DataFrame, style: MetricFormat, systems: Mapping[str, SystemLook], most: int
) -> Panel:
    ordered = scores.sort_values("value", kind="stable")
    by_system = dict(tuple(ordered.groupby("system", sort=False)))
    present = [name for name in systems if name in by_system]
    ends = float(ordered["value"].iloc[0]), float(ordered["value"].iloc[-1])
    x = Scale(*margin(*ends, 0.03), LEFT, RIGHT)
    bottom = TOP + ROW * len(present)
    heading = f"{style.heading} {style.arrow}".strip()
    parts, table = [bottom_axis(x, TOP, bottom, heading)], []
    for position, name in enumerate(present):
        rows = by_system[name]
        found = rows["value"].to_numpy(np.float64)
        points = np.percentile(found, (5, 25, 50, 75, 95))
        texts = [format_number(float(value), style.decimals) for value in (found.mean(), *points, found[0], found[-1])]
        table.append([name, f"{len(found):,}", *texts])
        height = TOP + ROW * (position + 0.5)
        parts.append(_box(name, height, found, points, x, systems[name], _told(rows, texts, style), most))
    title = f"{style.label}: scores of the single utterances"
    told = f"{len(present)} systems, one row each. The table below has their quartiles."
    svg = drawing(identity, WIDTH, bottom + 42, title, told, *parts, tips=True)
    return Panel(label, svg, SCORES, table)


def _told(rows: pd.DataFrame, texts: Sequence[str], style: MetricFormat) -> str:
    mean, _, low, median, high, _, lowest, highest = texts
    ends = rows["utterance"].to_list()
    return (
        f"{isolated(rows['system'].iloc[0])}, n {len(rows):,}\n"
        f"{style.label}: mean {mean}, median {median}, half of the utterances in {low} to {high}\n"
        f"lowest {lowest}: {isolated(str(ends[0]))}\nhighest {highest}: {isolated(str(ends[-1]))}"
    )


def _box(
    name: str,
    height: float,
    values: NDArray[np.float64],
    points: NDArray[np.float64],
    x: Scale,
    look: SystemLook,
    tip: str,
    most: int,
) -> Markup:
    low, first, median, third, high = (x(float(point)) for point in points)
    dots = values if len(values) <= most else np.concatenate([values[: most // 2], values[-(most // 2) :]])
    jitter = np.random.default_rng(len(values)).uniform(-BOX, BOX, len(dots))
    path = "".join(f"M{x(float(value)):.0f} {height + up:.0f}h0" for value, up in zip(dots, jitter, strict=True))
    return tag(
        "g",
        tag("rect", x=0.0, y=height - ROW / 2, width=WIDTH, height=ROW, class_="band"),
        text(LEFT - 10, height + 4, shortened(name, NAME), text_anchor="end"),
        tag("path", d=path, class_=f"dots {look.color}"),
        line(low, height, high, height, class_=f"bar {look.color}"),
        tag("rect", x=first, y=height - BOX, width=third - first, height=2 * BOX, class_=f"box {look.color}"),
        line(median, height - BOX, median, height + BOX, class_="median"),
        marker("D", x(float(values.mean())), height, 5, class_="mean"),
        text(RIGHT + 10, height + 4, f"{len(values):,}", class_="tick"),
        data_tip=tip,
    )


def differences_chart(
    differences: pd.DataFrame | None, systems: Mapping[str, SystemLook], near: Sequence[str]
) -> Chart:
    """A forest plot a data set and metric; panels are scaled for the systems in `near`, others may lie beyond."""
    title = "Differences to the baseline"
    if differences is None:
        return Chart("differences", title, missing="there is no baseline, or no system beside it")
    rows = differences.assign(key=metric_keys(differences))
    rows = rows[rows["n"] > 0]
    if rows.empty:
        return Chart("differences", title, missing="no utterance was scored of both a system and the baseline")
    baseline = str(rows["baseline"].iloc[0])
    several = rows["dataset"].nunique() > 1
    panels: list[Panel] = []
    for (dataset, key), compared in rows.groupby(["dataset", "key"], sort=False):
        style = metric_format(str(key))
        label = f"{style.label}, {plain(str(dataset))}" if several else style.label
        panels.append(_forest(f"differences-{len(panels)}", label, compared, style, systems, near, baseline))
    return Chart(
        "differences",
        f"Differences to {plain(baseline)}",
        "Metric",
        "Mean difference, system minus baseline, over the utterances both scored, with its 95 % interval. Filled: "
        "differs (p < 0.05 after Holm's correction, and the interval excludes 0); hollow: no difference was found; "
        "arrow: beyond the panel.",
        tuple(panels),
    )


def _forest(
    identity: str,
    label: str,
    compared: pd.DataFrame,
    style: MetricFormat,
    systems: Mapping[str, SystemLook],
    near: Sequence[str],
    baseline: str,
) -> Panel:
    records = compared.to_dict("records")
    x = _difference_scale(records, near)
    bottom = TOP + ROW * len(records)
    unit = f"difference ({style.unit})" if style.unit else "difference"
    better = {True: ", better →", False: ", ← better", None: ""}[style.higher_is_better]
    parts = [bottom_axis(x, TOP, bottom, unit + better), line(x(0.0), TOP, x(0.0), bottom, class_="zero")]
    for position, record in enumerate(records):
        parts.append(_difference(record, TOP + ROW * (position + 0.5), x, systems[record["system"]], style, baseline))
    title = f"{style.label}: differences to {plain(baseline)}"
    told = f"{len(records)} systems, one row each. The table below has the same numbers."
    table = [difference_texts(record, style) for record in records]
    return Panel(label, drawing(identity, WIDTH, bottom + 42, title, told, *parts, tips=True), HEAD, table)


def _difference_scale(records: Sequence[Mapping[Any, Any]], near: Sequence[str]) -> Scale:
    main = [record for record in records if record["system"] in near] or list(records)
    ends = _ends(main)
    low, high = min(ends), max(ends)
    reach = REACH * (high - low)
    ends += _ends([record for record in records if low - reach <= record["difference"] <= high + reach])
    return Scale(*margin(min(ends), max(ends), 0.08), LEFT, RIGHT)


def _ends(records: Sequence[Mapping[Any, Any]]) -> list[float]:
    values = [record[name] for record in records for name in ("difference", "low", "high")]
    return [0.0, *(float(value) for value in values if math.isfinite(value))]


def _difference(
    record: Mapping[Any, Any], height: float, x: Scale, look: SystemLook, style: MetricFormat, baseline: str
) -> Markup:
    mean, low, high, verdict = (record[name] for name in ("difference", "low", "high", "verdict"))
    texts = dict(zip(HEAD, difference_texts(record, style), strict=True))
    filled = f"point {look.color}" if verdict else f"point hollow {look.color}"
    parts = [
        tag("rect", x=0.0, y=height - ROW / 2, width=WIDTH, height=ROW, class_="band"),
        text(LEFT - 10, height + 4, shortened(record["system"], NAME), text_anchor="end"),
        text(RIGHT + 10, height + 4, f"{texts['difference']} {MARKS.get(verdict, '')}".strip(), class_="tick"),
    ]
    if x.holds(mean):
        if math.isfinite(low) and math.isfinite(high):
            first, last = (min(max(x(value), x.start), x.end) for value in (low, high))
            parts.append(line(first, height, last, height, class_=f"bar {look.color}"))
        # A circle whatever the system's marker: triangles are arrows here.
        parts.append(marker("o", x(mean), height, 6, class_=filled))
    else:
        beyond = mean > x.high
        parts.append(marker(">" if beyond else "<", x.end - 8 if beyond else x.start + 8, height, 7, class_=filled))
    found = f"{MARKS[verdict]} {verdict} than {isolated(baseline)}" if verdict else "no difference was found"
    tip = (
        f"{isolated(record['system'])} minus {isolated(baseline)}\n{style.label} {texts['difference']}, 95 % interval "
        f"{texts['95 % interval']}, n {texts['n']}\n{found}, p (Holm) {texts['p (Holm)']}"
    )
    return tag("g", *parts, data_tip=tip)
