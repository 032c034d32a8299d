"""How each system's losses fell while it was trained: a panel a loss, a line a system."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evalkit.figures.axis import Axis

NOT_A_LOSS = ("step", "learning_rate", "seconds")
SMOOTHING = 0.05  # the running mean covers this share of a curve's points
LOG_RATIO = 3.0  # a panel whose values span more than this is logarithmic


@dataclass(frozen=True)
class CurvePanel:
    """One column of the logs.

    Attributes:
        column: "total", a loss or "learning_rate".
        curves: system -> (n, 2): step, value; finite ones only. Losses are running means.
        steps, values: the axes.
    """

    column: str
    curves: Mapping[str, NDArray[np.float64]]
    steps: Axis
    values: Axis

    @property
    def title(self) -> str:
        return self.column.replace("_", " ")


def curve_panels(training: Mapping[str, pd.DataFrame], systems: Iterable[str]) -> list[CurvePanel]:
    """For the total, each weighted loss and the learning rate; empty where nothing was logged.

    Args:
        training: system -> rows of training/SYSTEM.csv (step, losses, total, learning_rate, seconds).
        systems: in the order of the lines.
    """
    logs = {name: training[name] for name in systems if name in training and len(training[name])}
    columns = dict.fromkeys(column for log in logs.values() for column in log.columns)
    losses = [name for name in columns if name not in (*NOT_A_LOSS, "total")]
    panels = []
    for column in ("total", *losses, "learning_rate"):
        curves = {name: _curve(log, column) for name, log in logs.items() if column in log}
        curves = {name: curve for name, curve in curves.items() if len(curve)}
        if curves:
            panels.append(CurvePanel(column, curves, *_axes(column, np.concatenate(list(curves.values())))))
    return panels


def running_mean(values: pd.Series) -> pd.Series:
    """Mean over a centred window of 5 % of the points, at least one; shorter at the ends."""
    window = max(1, round(SMOOTHING * len(values)))
    return values.rolling(window, center=True, min_periods=1).mean()


def _curve(log: pd.DataFrame, column: str) -> NDArray[np.float64]:
    values = log[["step", column]].apply(pd.to_numeric, errors="coerce").dropna()
    smooth = values[column] if column == "learning_rate" else running_mean(values[column])
    curve = np.column_stack([values["step"].to_numpy(np.float64), smooth.to_numpy(np.float64)])
    return curve[np.isfinite(curve).all(axis=1)]


def _axes(column: str, points: NDArray[np.float64]) -> tuple[Axis, Axis]:
    steps = Axis.around([points[:, 0].min(), max(points[:, 0].max(), points[:, 0].min() + 1)], 0.02)
    low, high = float(points[:, 1].min()), float(points[:, 1].max())
    if column != "learning_rate" and 0 < low < high / LOG_RATIO:
        return steps, Axis.logarithmic_around(low, high, 1.15)
    return steps, Axis.around([low, high], 0.05)
