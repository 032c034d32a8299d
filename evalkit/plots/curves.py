"""How each system's losses fell while it was trained."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from evalkit.plots.figures import Look, NothingToDraw, legend_columns, log_axis, looks, styled, wrap
from evalkit.plots.lettering import add_legend

NOT_A_LOSS = ("step", "learning_rate", "seconds")
SMOOTHING = 0.05  # the running mean covers this share of a curve's points
LOG_RATIO = 3.0  # a panel whose values span more than this is logarithmic


@styled
def plot_training_curves(training: Mapping[str, pd.DataFrame], systems: pd.DataFrame) -> Figure:
    """One panel for the total, each weighted loss and the learning rate; one line a system.

    Losses are running means over 5 % of the logged points. A loss that only some systems have shows those only.

    Args:
        training: system -> rows of training/SYSTEM.csv (step, losses, total, learning_rate, seconds).
        systems: rows of systems.parquet, for order and looks.

    Raises:
        NothingToDraw: no logged step.
    """
    logs = {name: training[name] for name in systems["system"] if name in training and len(training[name])}
    if not logs:
        raise NothingToDraw("no training was logged")
    names = dict.fromkeys(column for log in logs.values() for column in log.columns)
    losses = [name for name in names if name not in (*NOT_A_LOSS, "total")]
    panels = [name for name in ("total", *losses, "learning_rate") if name in names]
    rows, width = wrap(3, len(panels))
    inches = 0.8 + 3.5 * width
    figure = Figure(figsize=(inches, 1.3 + 2.7 * rows), layout="constrained")
    figure.suptitle("Training: weighted losses, running mean")
    system_looks = looks(systems)
    for position, panel in enumerate(panels):
        axes = figure.add_subplot(rows, width, position + 1)
        axes.set_title(panel.replace("_", " "))
        _draw_panel(axes, logs, panel, system_looks)
        if position + width >= len(panels):
            axes.set_xlabel("step")
    handles = []
    for name in logs:
        look = system_looks[name]
        handles.append(Line2D([], [], color=look.color, linestyle=look.line, label=name))
    add_legend(figure, handles, loc="outside lower center", ncols=legend_columns(list(logs), inches))
    return figure


def _draw_panel(axes: Axes, logs: Mapping[str, pd.DataFrame], column: str, system_looks: dict[str, Look]) -> None:
    drawn = []
    for name, log in logs.items():
        if column not in log:
            continue
        values = log[["step", column]].dropna()
        smooth = values[column] if column == "learning_rate" else running_mean(values[column])
        look = system_looks[name]
        axes.plot(values["step"], smooth, color=look.color, linestyle=look.line)
        drawn.append(smooth.to_numpy(dtype=np.float64))
    everything = np.concatenate(drawn)
    everything = everything[np.isfinite(everything)]
    axes.margins(x=0.02)
    axes.locator_params(axis="x", nbins=5)
    if column == "learning_rate":
        axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0), useMathText=True)
        axes.yaxis.get_offset_text().set_parse_math(True)
    elif len(everything) and 0 < everything.min() < everything.max() / LOG_RATIO:
        log_axis(axes, "y", everything.min() / 1.15, everything.max() * 1.15)


def running_mean(values: pd.Series) -> pd.Series:
    """Mean over a centred window of 5 % of the points, at least one; shorter at the ends."""
    window = max(1, round(SMOOTHING * len(values)))
    return values.rolling(window, center=True, min_periods=1).mean()
