"""The tilings themselves: points and cells."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from evalkit.figures.cells import bounding_box, clipped_cells
from evalkit.plots.cells import draw_cells
from evalkit.plots.figures import styled, wrap
from q2d2.tilings import TILINGS, build_tiling


@styled
def plot_tilings(levels: tuple[int, int] = (7, 7), names: Sequence[str] | None = None) -> Figure:
    """One panel a tiling: its points, and the region of the plane that snaps to each of them.

    Args:
        levels: levels of the two channels of a pair, each >= 2.
        names: tilings to show; all that are known by default.

    Raises:
        ValueError: a level below 2 or an unknown tiling.
    """
    shown = list(TILINGS if names is None else names)
    rows, width = wrap(4, len(shown))
    figure = Figure(figsize=(0.4 + 2.9 * width, 0.7 + 3.1 * rows), layout="constrained")
    figure.suptitle(f"Tilings of a pair of channels at levels {levels[0]} x {levels[1]}")
    tilings = [build_tiling(name, *levels) for name in shown]
    grids = [tiling.points.double().cpu().numpy() for tiling in tilings]
    # One box for all: equal distances look equal in every panel.
    boxes = np.array([bounding_box(points) for points in grids])
    box = (*boxes.min(axis=0)[[0]], *boxes.max(axis=0)[[1]], *boxes.min(axis=0)[[2]], *boxes.max(axis=0)[[3]])
    for position, (name, tiling, points) in enumerate(zip(shown, tilings, grids, strict=True)):
        axes = figure.add_subplot(rows, width, position + 1)
        draw_cells(axes, clipped_cells(points, box), box, facecolor="#dcebf7", edgecolor="#135794", linewidth=0.9)
        axes.plot(points[:, 0], points[:, 1], "o", color="black", markersize=3.2)
        axes.set_title(f"{name}\n{tiling.num_points} points, {tiling.bits:.2f} bits")
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        axes.locator_params(nbins=5)
    return figure
