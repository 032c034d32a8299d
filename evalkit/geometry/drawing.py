"""Figures of a survey: cells coloured by probability, and error against rate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from evalkit.figures.axis import Axis
from evalkit.figures.looks import LineStyle, looks
from evalkit.geometry.partition import SQUARE, partition
from evalkit.geometry.second_moment import OPTIMUM_2D, SPHERE_BOUND
from evalkit.geometry.survey import Survey
from evalkit.plots.cells import draw_cells
from evalkit.plots.figures import legend_columns, save, set_axis, styled, wrap
from evalkit.plots.lettering import add_legend
from q2d2.tilings import build_tiling

LEAST_USE = 1e-3  # relative to uniform: rarer codes are as pale as this
MARKED: dict[str, tuple[float, LineStyle]] = {
    "1/12 = 0.0833, square lattice": (1 / 12, (0, (5, 3))),
    "5/(36√3) = 0.0802, A2, least in the plane": (OPTIMUM_2D, (0, (5, 2, 1, 2))),
    "1/(2πe) = 0.0585, sphere bound": (SPHERE_BOUND, (0, (1, 1.5))),
}
GREY = "#777777"
RATE_TITLES = {"bits": "equal bits: log2 of the points", "entropy": "equal entropy of the codes"}


def draw(measured: Survey, folder: Path) -> list[Path]:
    """Write all figures to `folder` as SVG and PNG: `codes-TILING`, at the middle level, and `error-RATE`."""
    level = measured.levels[len(measured.levels) // 2]
    paths = []
    for name in measured.tilings:
        paths += save(plot_codes(measured, name, level), folder, f"codes-{name}")
    for rate in RATE_TITLES:
        paths += save(plot_error(measured, rate), folder, f"error-{rate}")
    return paths


@styled
def plot_codes(measured: Survey, tiling: str, level: int) -> Figure:
    """One panel a source: the cells of `tiling` at `level` within the square, dark where a code is probable.

    The scale is logarithmic and relative to uniform use, the same for all panels; no cell beyond the square is drawn.
    """
    cells = partition(build_tiling(tiling, level, level))
    codes = measured.codes[(measured.codes["tiling"] == tiling) & (measured.codes["level"] == level)]
    relative = {
        source.name: codes.loc[codes["source"] == source.name, "probability"].to_numpy() * len(cells.points)
        for source in measured.sources
    }
    highest = max(1.5, *(float(use.max()) for use in relative.values()))
    scale = LogNorm(LEAST_USE, highest)
    rows, width = wrap(4, len(relative))
    figure = Figure(figsize=(1.3 + 2.9 * width, 0.6 + 3.0 * rows), layout="constrained")
    figure.suptitle(f"{tiling}, {level} x {level}: {len(cells.points)} points, {cells.tiling.bits:.2f} bits")
    panels = []
    within = np.array([len(cell) > 2 for cell in cells.cells])
    for position, (name, use) in enumerate(relative.items()):
        axes = figure.add_subplot(rows, width, position + 1)
        panels.append(axes)
        shown = draw_cells(axes, [cell for cell, on in zip(cells.cells, within, strict=True) if on], SQUARE)
        shown.set(array=np.maximum(use[within], LEAST_USE), cmap="viridis_r", norm=scale, edgecolor="#666666")
        shown.set_linewidth(0.4)
        axes.plot(*cells.points.T, ".", color="black", markersize=2, clip_on=False)
        (row,) = _rows(measured, name, tiling, level).to_dict("records")
        axes.set_title(
            f"{name}\nentropy {row['entropy']:.2f} bits, border {100 * row['border_share']:.2g} %", fontsize=9.5
        )
        axes.set(xticks=[-1, 0, 1], yticks=[-1, 0, 1])
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
    bar = figure.colorbar(ScalarMappable(scale, "viridis_r"), ax=panels, shrink=0.8, pad=0.03, extend="min")
    bar.set_label("probability relative to uniform use")
    set_axis(bar.ax, "y", Axis(LEAST_USE, highest, logarithmic=True))
    return figure


@styled
def plot_error(measured: Survey, rate: str) -> Figure:
    """One panel a source: what is left of the mean squared error without its rate, one line a tiling.

    Upwards is `survey.normalized`, with `rate` "bits" or "entropy"; levels asked for are marked, and the grey lines
    are the second moments of the square lattice and of A2 (the least in the plane), and the sphere bound. For a
    source whose differential entropy is not known it is the error times 2^rate / 4, as if it filled the square evenly.
    """
    sources = measured.sources
    rows, width = wrap(3, len(sources))
    figure = Figure(figsize=(0.8 + 3.8 * width, 1.4 + 3.5 * rows), layout="constrained")
    figure.suptitle(f"Squared error at {RATE_TITLES[rate]}")
    tilings = measured.tilings
    look = looks(pd.DataFrame({"system": tilings, "kind": "codec"}))
    for position, source in enumerate(sources):
        axes = figure.add_subplot(rows, width, position + 1)
        known = source.differential_entropy is not None
        heights = []
        own = measured.rows[measured.rows["source"] == source.name]
        low, high = own.loc[own["listed"], rate].min(), own.loc[own["listed"], rate].max()
        margin = max(0.04 * (high - low), 0.1)
        for name in tilings:
            line = own[own["tiling"] == name].sort_values(rate)
            left = line[f"normalized_at_{rate}"] if known else line["mse"] * 2 ** line[rate] / 4
            inside = line[rate].between(low - margin, high + margin)
            heights += [left[inside].min(), left[inside].max()]
            axes.plot(line[rate], left, color=look[name].color, linestyle=look[name].line, linewidth=1.3)
            listed = line["listed"]
            axes.plot(line.loc[listed, rate], left[listed], look[name].marker, color=look[name].color, markersize=5)
        if known:
            for value, style in MARKED.values():
                axes.axhline(value, linestyle=style, zorder=1, color=GREY, linewidth=1.0)
                heights.append(value)
        room = 0.05 * ((max(heights) - min(heights)) or max(heights))
        axes.set(xlim=(low - margin, high + margin), ylim=(min(heights) - room, max(heights) + room))
        axes.set_title(source.name)
        axes.set_xlabel("bits a pair" if rate == "bits" else "entropy (bits a pair)")
        if position % width == 0 or not known:
            text = r"error $\cdot\,2^{\mathrm{rate}-h}$" if known else r"error $\cdot\,2^{\mathrm{rate}}/4$"
            axes.set_ylabel(text, parse_math=True)
    handles = [
        Line2D([], [], color=look[name].color, marker=look[name].marker, linestyle=look[name].line, label=name)
        for name in tilings
    ]
    if any(source.differential_entropy is not None for source in sources):
        handles += [
            Line2D([], [], linestyle=style, label=label, color=GREY, linewidth=1.0)
            for label, (_, style) in MARKED.items()
        ]
    columns = legend_columns([str(handle.get_label()) for handle in handles], 3.8 * width)
    add_legend(figure, handles, loc="outside lower center", ncols=columns)
    return figure


def _rows(measured: Survey, source: str, tiling: str, level: int) -> pd.DataFrame:
    rows = measured.rows
    return rows[(rows["source"] == source) & (rows["tiling"] == tiling) & (rows["level"] == level)]
