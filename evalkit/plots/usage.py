"""Which codes a system uses: on the cells of its tilings, or as shares sorted by rank."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from evalkit.figures.axis import Axis
from evalkit.figures.cells import bounding_box, clipped_cells
from evalkit.figures.looks import LINES, NothingToDraw
from evalkit.figures.usage import SystemUsage
from evalkit.plots.cells import draw_cells
from evalkit.plots.figures import fold, set_axis, styled, wrap
from evalkit.plots.lettering import add_legend

UNUSED = {"facecolor": "white", "edgecolor": "#777777", "hatch": "xxxxx", "linewidth": 0.5}
LINEAR_RANKS = 64  # up to this many codes ranks are drawn on a linear axis
TITLE_LENGTH = 36
MAX_LEGEND = 8  # more quantizers than this are named first and last only


@styled
def plot_usage_map(usage: SystemUsage) -> Figure:
    """One panel a pair: the cells of the tiling's points, dark where a code is frequent, crossed out where unused.

    The scale is logarithmic and relative to uniform use (1 = as often as if all codes were equally likely), the same
    for all pairs.

    Raises:
        NothingToDraw: the codes lie on no tilings.
    """
    if not usage.has_grids:
        raise NothingToDraw(f"{usage.system}: its codes lie on no tilings")
    used = np.concatenate([pair.relative[pair.counts > 0] for pair in usage.quantizers])
    axis = Axis(min(used.min(), 1 / 1.5), max(used.max(), 1.5), logarithmic=True)
    scale = LogNorm(axis.low, axis.high)
    rows, width = wrap(3, len(usage.quantizers))
    points_of = [pair.grid.points.astype(np.float64) for pair in usage.quantizers if pair.grid is not None]
    boxes = [bounding_box(points) for points in points_of]
    tallest = max((y_high - y_low) / (x_high - x_low) for x_low, x_high, y_low, y_high in boxes)
    figure = Figure(figsize=(1.2 + 3.1 * width, 0.8 + (0.45 + 3.0 * tallest) * rows), layout="constrained")
    figure.suptitle(f"{usage.system}: how often each point is used")
    panels = []
    for number, (pair, points, box) in enumerate(zip(usage.quantizers, points_of, boxes, strict=True), 1):
        axes = figure.add_subplot(rows, width, number)
        panels.append(axes)
        cells = clipped_cells(points, box)
        live = pair.counts > 0
        shown = draw_cells(axes, [cell for cell, on in zip(cells, live, strict=True) if on], box)
        shown.set(array=pair.relative[live], cmap="viridis_r", norm=scale, edgecolor="white", linewidth=0.4)
        draw_cells(axes, [cell for cell, on in zip(cells, live, strict=True) if not on], box, **UNUSED)
        axes.set_title(f"pair {number}: {pair.used} of {pair.size} used\n{pair.entropy_text}", fontsize=9.5)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    bar = figure.colorbar(ScalarMappable(scale, "viridis_r"), ax=panels, shrink=0.8, pad=0.03)
    bar.set_label("use relative to uniform")
    set_axis(bar.ax, "y", axis)
    if any(pair.used < pair.size for pair in usage.quantizers):
        unused = Patch(label="never used", **UNUSED)  # type: ignore[arg-type]
        add_legend(figure, [unused], loc="outside lower center")
    return figure


@styled
def plot_usage_curves(systems: Sequence[SystemUsage]) -> Figure:
    """One panel a system: share of each code, most frequent first, one line a quantizer.

    The dashed level is uniform use; codes never used are not on the line and counted in the title.

    Raises:
        NothingToDraw: there is no system.
    """
    if not systems:
        raise NothingToDraw("no codes of a system without tilings")
    rows, width = wrap(3, len(systems))
    figure = Figure(figsize=(0.8 + 3.6 * width, 0.9 + 3.2 * rows), layout="constrained")
    figure.suptitle("Code usage, most frequent code first")
    for position, system in enumerate(systems):
        axes = figure.add_subplot(rows, width, position + 1)
        quantizers = system.quantizers
        shades = np.linspace(0.0, 0.72, len(quantizers))
        for number, quantizer in enumerate(quantizers):
            share = np.sort(quantizer.shares[quantizer.counts > 0])[::-1]
            named = len(quantizers) <= MAX_LEGEND or number in (0, len(quantizers) - 1)
            axes.plot(
                np.arange(1, len(share) + 1),
                share,
                color=_shade(shades[number]),
                linestyle=LINES[number % len(LINES)],
                marker="o" if len(share) == 1 else "",  # a collapsed codebook is no line
                label=f"quantizer {number + 1}" if named else None,
            )
        for size in dict.fromkeys(quantizer.size for quantizer in quantizers):
            axes.axhline(1 / size, color="#777777", linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        largest = max(quantizer.size for quantizer in quantizers)
        if largest > LINEAR_RANKS:
            set_axis(axes, "x", Axis(0.8, 1.25 * largest, logarithmic=True), "{:,.0f}".format)
        # Room below a level curve, so that the legend has a corner to itself.
        lowest = min(min(each.shares[each.counts > 0].min(), 0.1 / each.size) for each in quantizers)
        highest = max(each.shares.max() for each in quantizers)
        set_axis(axes, "y", Axis(lowest / 1.3, 1.6 * highest, logarithmic=True), _percent)
        axes.set_xlabel("rank of the code")
        if position % width == 0:
            axes.set_ylabel("share of frames")
        live, total = sum(each.used for each in quantizers), sum(each.size for each in quantizers)
        bits = quantizers[0].entropy_text if len(quantizers) == 1 else f"{len(quantizers)} quantizers"
        axes.set_title(fold(f"{system.system}: {live:,} of {total:,} used", TITLE_LENGTH) + f"\n{bits}", fontsize=9.5)
        if len(quantizers) > 1:
            axes.legend(loc="lower left", fontsize=8)
    figure.supxlabel("dashed: uniform use", fontsize=9)
    return figure


def _percent(share: float) -> str:
    return f"{100 * share:g} %"


def _shade(level: float) -> tuple[float, float, float, float]:
    from matplotlib import colormaps

    return colormaps["viridis"](level)
