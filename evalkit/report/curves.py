"""How the losses of each system fell while it was trained."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evalkit.figures.curves import CurvePanel, curve_panels
from evalkit.report.charts import Chart, Panel, SystemLook, line_sample
from evalkit.report.svg import Scale, bottom_axis, drawing, left_axis, outline, tag
from evalkit.text import plain

WIDTH, HEIGHT = 760.0, 340.0
LEFT, RIGHT, TOP, BOTTOM = 62.0, 725.0, 34.0, 292.0
MAX_POINTS = 200
TABLE_STEPS = 12


def training_chart(training: Mapping[str, pd.DataFrame], systems: Mapping[str, SystemLook]) -> Chart:
    """A panel for the total, each weighted loss and the learning rate; one line a system."""
    title = "Losses while training"
    models = curve_panels(training, systems)
    if not models:
        lost = "no training was logged, or its log was not kept here (trials of a sweep keep theirs)"
        return Chart("training", title, missing=lost)
    panels = [_panel(f"training-{number}", model, systems) for number, model in enumerate(models)]
    names = dict.fromkeys(name for model in models for name in model.curves)
    legend = tuple((line_sample(systems[name]), plain(name)) for name in names)
    explained = (
        "Losses: as weighted in the total, running mean over 5 % of the logged steps. Learning rate: as set. Totals of "
        "bottlenecks with a commitment loss hold one loss more."
    )
    return Chart("training", title, "Curve", explained, tuple(panels), legend)


def _thinned(curve: NDArray[np.float64], most: int) -> NDArray[np.float64]:
    """At most `most` points, the first and the last among them."""
    if len(curve) <= most:
        return curve
    return curve[np.linspace(0, len(curve) - 1, most).round().astype(int)]


def _panel(identity: str, model: CurvePanel, systems: Mapping[str, SystemLook]) -> Panel:
    x, y, curves, label = Scale(model.steps, LEFT, RIGHT), Scale(model.values, BOTTOM, TOP), model.curves, model.title
    parts = [
        left_axis(y, LEFT, RIGHT, label if model.column == "learning_rate" else f"weighted loss: {label}"),
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
