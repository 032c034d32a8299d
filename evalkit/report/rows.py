"""Charts with one row a system: the single utterances' scores, and the differences to the baseline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from numpy.typing import NDArray

from evalkit.figures.differences import DifferencePanel, difference_panel
from evalkit.figures.distributions import DistributionPanel, Scores, distribution_panel, scored_metrics
from evalkit.report.charts import Chart, Panel, SystemLook
from evalkit.report.svg import Scale, bottom_axis, drawing, line, marker, tag, text
from evalkit.stats.differences import MARKS
from evalkit.tables.cells import format_number
from evalkit.tables.differences import HEAD, difference_texts
from evalkit.tables.summary import MetricFormat, metric_keys
from evalkit.text import isolated, plain, shortened

WIDTH, LEFT, RIGHT, TOP, ROW = 760.0, 206.0, 660.0, 12.0, 30.0
NAME = 24  # characters of a system's name
MAX_DOTS = 14_000  # of all panels: more of them would make the page megabytes
LEAST_DOTS = 20
BOX = 9.0  # half of its height
SCORES = ("System", "n", "Mean", "5 %", "25 %", "Median", "75 %", "95 %", "Lowest", "Highest")


def distributions_chart(utterances: pd.DataFrame, systems: Mapping[str, SystemLook]) -> Chart:
    """A panel a data set and metric with a score; `utterances` with the column `key` (see `Joined`)."""
    title = "Scores of the single utterances"
    models = []
    several = utterances["dataset"].nunique() > 1
    for dataset, rows in utterances.groupby("dataset", sort=False):
        rows = rows.assign(metric=rows["key"]).drop(columns="protocol", errors="ignore")
        models += [(str(dataset), distribution_panel(rows, key, list(systems))) for key in scored_metrics(rows)]
    sizes = [len(row.values) for _, model in models for row in model.rows if len(row.values)]
    if not sizes:
        return Chart("scores", title, missing="no score is ok")
    most = max(LEAST_DOTS, MAX_DOTS // len(sizes) // 2 * 2)  # half of them from each end
    panels = [
        _distribution(
            f"scores-{number}",
            f"{model.metric.label}, {plain(dataset)}" if several else model.metric.label,
            model,
            systems,
            most,
        )
        for number, (dataset, model) in enumerate(models)
    ]
    dots = "every utterance" if max(sizes) <= most else f"of each system the {most} utterances at the ends"
    return Chart(
        "scores",
        title,
        "Metric",
        "Box: quartiles and median; whiskers: 5 % to 95 %; diamond: mean; "
        f"dots: {dots}; on the right: scored utterances.",
        tuple(panels),
    )


def _distribution(
    identity: str, label: str, model: DistributionPanel, systems: Mapping[str, SystemLook], most: int
) -> Panel:
    style = model.metric
    present = [row for row in model.rows if len(row.values)]
    x = Scale(model.axis, LEFT, RIGHT)
    bottom = TOP + ROW * len(present)
    heading = f"{style.heading} {style.arrow}".strip()
    parts, table = [bottom_axis(x, TOP, bottom, heading)], []
    for position, row in enumerate(present):
        order = np.argsort(row.values, kind="stable")
        found = row.values[order]
        points = row.quantiles()
        texts = [format_number(float(value), style.decimals) for value in (found.mean(), *points, found[0], found[-1])]
        table.append([row.system, f"{len(found):,}", *texts])
        ends = row.utterances[order[0]], row.utterances[order[-1]]
        height = TOP + ROW * (position + 0.5)
        tip = _told(row, ends, texts, style)
        parts.append(_box(row.system, height, found, points, x, systems[row.system], tip, most))
    title = f"{style.label}: scores of the single utterances"
    told = f"{len(present)} systems, one row each. The table below has their quartiles."
    svg = drawing(identity, WIDTH, bottom + 42, title, told, *parts, tips=True)
    return Panel(label, svg, SCORES, table)


def _told(row: Scores, ends: tuple[str, str], texts: Sequence[str], style: MetricFormat) -> str:
    mean, _, low, median, high, _, lowest, highest = texts
    return (
        f"{isolated(row.system)}, n {len(row.values):,}\n"
        f"{style.label}: mean {mean}, median {median}, half of the utterances in {low} to {high}\n"
        f"lowest {lowest}: {isolated(ends[0])}\nhighest {highest}: {isolated(ends[1])}"
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
        model = difference_panel(compared.assign(metric=str(key)).drop(columns="protocol"), str(key), near)
        label = f"{model.metric.label}, {plain(str(dataset))}" if several else model.metric.label
        panels.append(_forest(f"differences-{len(panels)}", label, model, systems, baseline))
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
    identity: str, label: str, model: DifferencePanel, systems: Mapping[str, SystemLook], baseline: str
) -> Panel:
    style = model.metric
    x = Scale(model.axis, LEFT, RIGHT)
    bottom = TOP + ROW * len(model.rows)
    parts = [bottom_axis(x, TOP, bottom, model.label), line(x(0.0), TOP, x(0.0), bottom, class_="zero")]
    for position, row in enumerate(model.rows):
        parts.append(_difference(row, TOP + ROW * (position + 0.5), x, systems[row["system"]], style, baseline))
    title = f"{style.label}: differences to {plain(baseline)}"
    told = f"{len(model.rows)} systems, one row each. The table below has the same numbers."
    table = [difference_texts(row, style) for row in model.rows]
    return Panel(label, drawing(identity, WIDTH, bottom + 42, title, told, *parts, tips=True), HEAD, table)


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
    if x.axis.holds(mean):
        if math.isfinite(low) and math.isfinite(high):
            first, last = (min(max(x(value), x.start), x.end) for value in (low, high))
            parts.append(line(first, height, last, height, class_=f"bar {look.color}"))
        # A circle whatever the system's marker: triangles are arrows here.
        parts.append(marker("o", x(mean), height, 6, class_=filled))
    else:
        beyond = mean > x.axis.high
        parts.append(marker(">" if beyond else "<", x.end - 8 if beyond else x.start + 8, height, 7, class_=filled))
    found = f"{MARKS[verdict]} {verdict} than {isolated(baseline)}" if verdict else "no difference was found"
    tip = (
        f"{isolated(record['system'])} minus {isolated(baseline)}\n{style.label} {texts['difference']}, 95 % interval "
        f"{texts['95 % interval']}, n {texts['n']}\n{found}, p (Holm) {texts['p (Holm)']}"
    )
    return tag("g", *parts, data_tip=tip)
