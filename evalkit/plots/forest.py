"""What forest plots share: panels side by side, a row for each thing compared, a line at zero."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from evalkit.plots.figures import legend_columns, text_inches, wrap
from evalkit.plots.lettering import add_legend, lettered
from evalkit.tables import metric_format

GREY = "#555555"


def found() -> Line2D:
    """The entry of the legend for filled points."""
    return Line2D([], [], color=GREY, marker="o", linestyle="-", label="differs (Holm p < 0.05), 95 % interval")


def not_found(label: str) -> Line2D:
    """The entry of the legend for hollow points."""
    return Line2D([], [], color=GREY, marker="o", markerfacecolor="white", linestyle="-", label=label)


def forest_panels(
    title: str, metrics: Sequence[str], labels: Sequence[str], handles: Sequence[Line2D], across: int, inches: float
) -> tuple[Figure, list[Axes]]:
    """An empty forest plot: the figure and a panel for each of `metrics`.

    Args:
        title: of the figure.
        metrics: keys, in the order of the panels.
        labels: of the rows, from top to bottom; row i is at height i.
        handles: the legend, below.
        across: panels beside one another.
        inches: width of a panel.
    """
    count, width = wrap(across, len(metrics))
    wide = 0.6 + text_inches(labels) + inches * width
    columns = legend_columns([str(handle.get_label()) for handle in handles], wide)
    high = 0.9 + 0.2 * -(-len(handles) // columns) + count * (0.9 + 0.28 * len(labels))
    figure = Figure(figsize=(wide, high), layout="constrained")
    figure.suptitle(title)
    panels: list[Axes] = []
    for position, metric in enumerate(metrics):
        axes = figure.add_subplot(count, width, position + 1, sharey=panels[0] if panels else None)
        panels.append(axes)
        style = metric_format(metric)
        axes.set_title(f"{style.label} {style.arrow}".strip())
        better = {True: "   better →", False: "   ← better", None: ""}[style.higher_is_better]
        axes.set_xlabel((f"difference ({style.unit})" if style.unit else "difference") + better)
        axes.axvline(0, color="#444444", linewidth=1.2, zorder=1)
        axes.locator_params(axis="x", nbins=6)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0, labelleft=position % width == 0)
    panels[0].set_yticks(range(len(labels)), list(map(lettered, labels)))
    panels[0].set_ylim(len(labels) - 0.5, -0.5)  # the first on top
    add_legend(figure, handles, loc="outside lower center", ncols=columns)
    return figure, panels
