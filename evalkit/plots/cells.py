"""Voronoi cells drawn."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from numpy.typing import NDArray

from evalkit.figures.cells import Box


def draw_cells(axes: Axes, cells: list[NDArray[np.float64]], box: Box, **style: object) -> PolyCollection:
    """Add polygons `cells` to `axes`, which then shows `box` with equal scales; `style` is matplotlib's."""
    collection = PolyCollection(cells, **style)  # type: ignore[arg-type]
    axes.add_collection(collection)
    axes.set(xlim=box[:2], ylim=box[2:], aspect="equal")
    axes.grid(visible=False)
    return collection
