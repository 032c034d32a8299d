"""Which codes a system uses: on the cells of its tilings, or as shares sorted by rank."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from evalkit.plots.cells import bounding_box, clipped_cells, draw_cells
from evalkit.plots.figures import LINES, NothingToDraw, fold, log_axis, present, styled, wrap
from evalkit.plots.lettering import add_legend

if TYPE_CHECKING:
    from q2d2.tilings import Tiling

UNUSED = {"facecolor": "white", "edgecolor": "#777777", "hatch": "xxxxx", "linewidth": 0.5}
LINEAR_RANKS = 64  # up to this many codes ranks are drawn on a linear axis
TITLE_LENGTH = 36
MAX_LEGEND = 8  # more quantizers than this are named first and last only


def tilings_of(bottleneck: object) -> list[Tiling]:
    """The tilings, one a pair, of a system's `bottleneck` (the spec as JSON text); empty for any other family."""
    spec = json.loads(bottleneck) if isinstance(bottleneck, str) and bottleneck else {}
    if spec.get("name") != "q2d2":
        return []
    # Torch, which a report of other systems does without.
    from q2d2.bottleneck import build_bottleneck
    from q2d2.tilings import Tiling

    options = {key: value for key, value in spec.items() if key != "name"}
    built = build_bottleneck("q2d2", 2, **options)  # the width of the latents does not matter to the points
    return [module for module in built.modules() if isinstance(module, Tiling)]


@styled
def plot_usage_map(codes: pd.DataFrame, system: str, tilings: list[Tiling]) -> Figure:
    """One panel a pair: the cells of the tiling's points, dark where a code is frequent, crossed out where unused.

    The scale is logarithmic and relative to uniform use (1 = as often as if all codes were equally likely), the same
    for all pairs. `codes` are rows of codes.parquet; quantizer q is pair q, code i the tiling's point i.

    Raises:
        NothingToDraw: no codes were counted, or they do not fit the tilings.
    """
    counts = _counts(codes, system)
    sizes = [tiling.num_points for tiling in tilings]
    if [len(values) for values in counts] != sizes:
        raise NothingToDraw(f"{system}: codes of sizes {[len(values) for values in counts]}, tilings of {sizes} points")
    relative = [values / values.sum() * len(values) for values in counts]
    used = np.concatenate([values[values > 0] for values in relative])
    lowest, highest = min(used.min(), 1 / 1.5), max(used.max(), 1.5)
    scale = LogNorm(lowest, highest)
    rows, width = wrap(3, len(tilings))
    grids = [tiling.points.double().cpu().numpy() for tiling in tilings]
    boxes = [bounding_box(points) for points in grids]
    tallest = max((y_high - y_low) / (x_high - x_low) for x_low, x_high, y_low, y_high in boxes)
    figure = Figure(figsize=(1.2 + 3.1 * width, 0.8 + (0.45 + 3.0 * tallest) * rows), layout="constrained")
    figure.suptitle(f"{system}: how often each point is used")
    panels = []
    for pair, (points, box, share) in enumerate(zip(grids, boxes, relative, strict=True)):
        axes = figure.add_subplot(rows, width, pair + 1)
        panels.append(axes)
        cells = clipped_cells(points, box)
        live = share > 0
        shown = draw_cells(axes, [cell for cell, on in zip(cells, live, strict=True) if on], box)
        shown.set(array=share[live], cmap="viridis_r", norm=scale, edgecolor="white", linewidth=0.4)
        draw_cells(axes, [cell for cell, on in zip(cells, live, strict=True) if not on], box, **UNUSED)
        axes.set_title(f"pair {pair + 1}: {live.sum()} of {len(share)} used\n{_bits(counts[pair])}", fontsize=9.5)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    bar = figure.colorbar(ScalarMappable(scale, "viridis_r"), ax=panels, shrink=0.8, pad=0.03)
    bar.set_label("use relative to uniform")
    log_axis(bar.ax, "y", lowest, highest)
    if any((share == 0).any() for share in relative):
        unused = Patch(label="never used", **UNUSED)  # type: ignore[arg-type]
        add_legend(figure, [unused], loc="outside lower center")
    return figure


@styled
def plot_usage_curves(codes: pd.DataFrame, systems: pd.DataFrame) -> Figure:
    """One panel a system whose codes lie on no tiling: share of each code, most frequent first, one line a quantizer.

    The dashed level is uniform use; codes never used are not on the line and counted in the title.

    Raises:
        NothingToDraw: every system with codes has tilings.
    """
    flat = systems[[not tilings_of(spec) for spec in systems["bottleneck"]]]
    names = present(codes["system"].tolist(), flat)
    if not names:
        raise NothingToDraw("no codes of a system without tilings")
    rows, width = wrap(3, len(names))
    figure = Figure(figsize=(0.8 + 3.6 * width, 0.9 + 3.2 * rows), layout="constrained")
    figure.suptitle("Code usage, most frequent code first")
    for position, name in enumerate(names):
        axes = figure.add_subplot(rows, width, position + 1)
        counts = _counts(codes, name)
        shades = np.linspace(0.0, 0.72, len(counts))
        for quantizer, values in enumerate(counts):
            share = np.sort(values[values > 0])[::-1] / values.sum()
            named = len(counts) <= MAX_LEGEND or quantizer in (0, len(counts) - 1)
            axes.plot(
                np.arange(1, len(share) + 1),
                share,
                color=_shade(shades[quantizer]),
                linestyle=LINES[quantizer % len(LINES)],
                marker="o" if len(share) == 1 else "",  # a collapsed codebook is no line
                label=f"quantizer {quantizer + 1}" if named else None,
            )
        for size in dict.fromkeys(len(values) for values in counts):
            axes.axhline(1 / size, color="#777777", linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        largest = max(len(values) for values in counts)
        if largest > LINEAR_RANKS:
            log_axis(axes, "x", 0.8, 1.25 * largest, "{:,.0f}".format)
        # Room below a level curve, so that the legend has a corner to itself.
        lowest = min(min(values[values > 0].min() / values.sum(), 0.1 / len(values)) for values in counts)
        log_axis(axes, "y", lowest / 1.3, 1.6 * max((values / values.sum()).max() for values in counts), _percent)
        axes.set_xlabel("rank of the code")
        if position % width == 0:
            axes.set_ylabel("share of frames")
        live, total = sum(int((values > 0).sum()) for values in counts), sum(len(values) for values in counts)
        bits = _bits(counts[0]) if len(counts) == 1 else f"{len(counts)} quantizers"
        axes.set_title(fold(f"{name}: {live:,} of {total:,} used", TITLE_LENGTH) + f"\n{bits}", fontsize=9.5)
        if len(counts) > 1:
            axes.legend(loc="lower left", fontsize=8)
    figure.supxlabel("dashed: uniform use", fontsize=9)
    return figure


def _percent(share: float) -> str:
    return f"{100 * share:g} %"


def _shade(level: float) -> tuple[float, float, float, float]:
    from matplotlib import colormaps

    return colormaps["viridis"](level)


def _counts(codes: pd.DataFrame, system: str) -> list[NDArray[np.float64]]:
    """Counts of each quantizer's codes in order, (codebook size,) each."""
    rows = codes[codes["system"] == system].sort_values(["quantizer", "code"])
    counts = [group["count"].to_numpy(dtype=np.float64) for _, group in rows.groupby("quantizer")]
    if not counts or any(values.sum() == 0 for values in counts):
        raise NothingToDraw(f"{system}: no codes were counted")
    return counts


def _bits(counts: NDArray[np.float64]) -> str:
    share = counts[counts > 0] / counts.sum()
    entropy = max(0.0, float(-(share * np.log2(share)).sum()))
    return f"entropy {entropy:.2f} of {np.log2(len(counts)):.2f} bits"
