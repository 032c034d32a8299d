"""How the losses of each system fell while it was trained."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evalkit.plots.curves import LOG_RATIO, NOT_A_LOSS, running_mean
from evalkit.report.charts import Chart, Panel, SystemLook, line_sample
from evalkit.report.svg import Scale, bottom_axis, drawing, left_axis, margin, outline, tag
from evalkit.text import plain

WIDTH, HEIGHT = 760.0, 340.0
LEFT, RIGHT, TOP, BOTTOM = 62.0, 725.0, 34.0, 292.0
MAX_POINTS = 200
TABLE_STEPS = 12


def training_chart(training: Mapping[str, pd.DataFrame], systems: Mapping[str, SystemLook]) -> Chart:
    """A panel for the total, each weighted loss and the learning rate; one line a system."""
    title = "Losses while training"
    logs = {name: training[name] for name in systems if name in training and len(training[name])}
    if not logs:
        lost = "no training was logged, or its log was not kept here (trials of a sweep keep theirs)"
        return Chart("training", title, missing=lost)
    columns = dict.fromkeys(column for log in logs.values() for column in log.columns)
    losses = [name for name in columns if name not in (*NOT_A_LOSS, "total")]
    panels: list[Panel] = []
    for column in ("total", *losses, "learning_rate"):
        curves = {name: _curve(log, column) for name, log in logs.items() if column in log}
        curves = {name: curve for name, curve in curves.items() if len(curve)}
        if curves:
            panels.append(_panel(f"training-{len(panels)}", column, curves, systems))
    legend = tuple((line_sample(systems[name]), plain(name)) for name in logs)
    explained = (
        "Losses: as weighted in the total, running mean over 5 % of the logged steps. Learning rate: as set. Totals of "
        "bottlenecks with a commitment loss hold one loss more."
    )
    return Chart("training", title, "Curve", explained, tuple(panels), legend)


def _curve(log: pd.DataFrame, column: str) -> NDArray[np.float64]:
    """(n, 2): step, value; finite ones only."""
    values = log[["step", column]].apply(pd.to_numeric, errors="coerce").dropna()
    smooth = values[column] if column == "learning_rate" else running_mean(values[column])
    curve = np.column_stack([values["step"].to_numpy(np.float64), smooth.to_numpy(np.float64)])
    return curve[np.isfinite(curve).all(axis=1)]


def _thinned(curve: NDArray[np.float64], most: int) -> NDArray[np.float64]:
    """At most `most` points, the first and the last among them."""
    if len(curve) <= most:
        return curve
    return curve[np.linspace(0, len(curve) - 1, most).round().astype(int)]


def _panel(
    identity: str, column: str, curves: Mapping[str, NDArray[np.float64]], systems: Mapping[str, SystemLook]
) -> Panel:
    everything = np.concatenate(list(curves.values()))
    steps, values = everything[:, 0], everything[:, 1]
    x = Scale(float(steps.min()), max(float(steps.max()), float(steps.min()) + 1), LEFT, RIGHT)
    low, high = float(values.min()), float(values.max())
    logarithmic = column != "learning_rate" and 0 < low < high / LOG_RATIO
    ends = (low / 1.1, high * 1.1) if logarithmic else margin(low, high)
    y = Scale(*ends, BOTTOM, TOP, logarithmic)
    label = column.replace("_", " ")
    parts = [
        left_axis(y, LEFT, RIGHT, label if column == "learning_rate" else f"weighted loss: {label}"),
        bottom_axis(x, TOP, BOTTOM, "step"),
    ]
    for name, curve in curves.items():
        points = [(x(step), y(value)) for step, value in _thinned(curve, MAX_POINTS)]
        look = systems[name]
        parts.append(tag("path", d=outline(points, closed=False), class_=f"line {look.color} {look.dashes}"))
    longest = max(curves.values(), key=len)
    shown = _thinned(longest, TABLE_STEPS)[:, 0]
    table = [[f"{step:,.0f}", *(_at(curve, step) for curve in curves.values())] for step in shown]
    told = f"One line a system: {len(curves)}. The table below has values at {len(shown)} steps."
    return Panel(
        label,
        drawing(identity, WIDTH, HEIGHT, f"Training: {label}", told, *parts),
        ("Step", *map(plain, curves)),
        table,
    )


def _at(curve: NDArray[np.float64], step: float) -> str:
    found = curve[curve[:, 0] == step, 1]
    return f"{found[0]:#.4g}".rstrip(".") if len(found) and not math.isnan(found[0]) else "-"
