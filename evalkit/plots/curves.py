"""How each system's losses fell while it was trained."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from evalkit.figures.curves import curve_panels
from evalkit.figures.looks import NothingToDraw, looks
from evalkit.plots.figures import legend_columns, set_axis, styled, wrap
from evalkit.plots.lettering import add_legend


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
    panels = curve_panels(training, systems["system"])
    if not panels:
        raise NothingToDraw("no training was logged")
    names = list(dict.fromkeys(name for panel in panels for name in panel.curves))
    rows, width = wrap(3, len(panels))
    inches = 0.8 + 3.5 * width
    figure = Figure(figsize=(inches, 1.3 + 2.7 * rows), layout="constrained")
    figure.suptitle("Training: weighted losses, running mean")
    system_looks = looks(systems)
    for position, panel in enumerate(panels):
        axes = figure.add_subplot(rows, width, position + 1)
        axes.set_title(panel.title)
        for name, curve in panel.curves.items():
            axes.plot(*curve.T, color=system_looks[name].color, linestyle=system_looks[name].line)
        set_axis(axes, "x", panel.steps)
        set_axis(axes, "y", panel.values)
        axes.locator_params(axis="x", nbins=5)
        if panel.column == "learning_rate":
            axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0), useMathText=True)
            axes.yaxis.get_offset_text().set_parse_math(True)
        if position + width >= len(panels):
            axes.set_xlabel("step")
    handles = []
    for name in names:
        look = system_looks[name]
        handles.append(Line2D([], [], color=look.color, linestyle=look.line, label=name))
    add_legend(figure, handles, loc="outside lower center", ncols=legend_columns(names, inches))
    return figure
