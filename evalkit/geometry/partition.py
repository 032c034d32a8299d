"""A tiling's cells within the square [-1, 1]^2, as the edges that integrals over cells need."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evalkit.figures.cells import Box, bounding_box, clipped_cells
from q2d2.tilings import Tiling

Floats = NDArray[np.float64]

SQUARE: Box = (-1.0, 1.0, -1.0, 1.0)
# Of the square's side: shorter is rounding, as where a cell's corner touches the square's side.
SHORT = 1e-9


@dataclass(frozen=True)
class Partition:
    """The square cut into the cells of a tiling's points, in units of half the span of columns and rows.

    These are the units in which Q2D2 decodes: tanh fills the square, whatever the levels.

    Attributes:
        tiling: in float64.
        points: (n, 2), row i is code i; the published hexagon has some beyond the square.
        cells: corners (m, 2) of each cell, counterclockwise; (0, 2) where a cell lies beyond the square.
        border: (n,), whether a side of the cell lies on a side of the square.
    """

    tiling: Tiling
    points: Floats
    cells: list[Floats]
    border: NDArray[np.bool_]

    @property
    def edges(self) -> tuple[Floats, Floats, NDArray[np.int64]]:
        """Starts (e, 2) and ends (e, 2) of all sides of all cells, and the code (e,) whose cell each belongs to."""
        starts = np.concatenate(self.cells)
        ends = np.concatenate([np.roll(cell, -1, axis=0) for cell in self.cells])
        return starts, ends, np.repeat(np.arange(len(self.cells)), [len(cell) for cell in self.cells])


def partition(tiling: Tiling) -> Partition:
    """Cut the square into the cells of `tiling`, exact up to rounding."""
    tiling = tiling.double()
    points = tiling.points.cpu().numpy()
    half = np.asarray(tiling.half_span)
    # Cells are exact within a box around the points and the square; then the square cuts them.
    low_x, high_x, low_y, high_y = bounding_box(points)
    box = (min(low_x, -half[0]), max(high_x, half[0]), min(low_y, -half[1]), max(high_y, half[1]))
    cells = [clip(cell / half, SQUARE) for cell in clipped_cells(points, box)]
    border = np.array([_touches(cell) for cell in cells])
    return Partition(tiling, points / half, cells, border)


def clip(polygon: Floats, box: Box) -> Floats:
    """The part of a convex `polygon` (m, 2) within `box`, in the same turning order; (0, 2) if there is none."""
    for axis, side, limit in ((0, 1, box[0]), (0, -1, box[1]), (1, 1, box[2]), (1, -1, box[3])):
        inside = side * (polygon[:, axis] - limit)
        if (inside >= 0).all():
            continue
        kept: list[Floats] = []
        for corner, depth, following, next_depth in zip(
            polygon, inside, np.roll(polygon, -1, axis=0), np.roll(inside, -1), strict=True
        ):
            if depth >= 0:
                kept.append(corner)
            if depth * next_depth < 0:
                crossing = corner + (following - corner) * (depth / (depth - next_depth))
                crossing[axis] = limit  # to the bit, so that the border is found
                kept.append(crossing)
        polygon = np.array(kept).reshape(-1, 2)
    return polygon


def moments(points: Floats, cells: list[Floats]) -> tuple[Floats, Floats]:
    """Areas (n,) of polygons, counterclockwise, and integrals (n,) of the squared distance to their `points` (n, 2).

    Each polygon is a fan of triangles (p, a, b), with the closed form area (|a|^2 + a.b + |b|^2) / 6 seen from p.
    """
    areas, integrals = np.zeros(len(cells)), np.zeros(len(cells))
    for index, (point, cell) in enumerate(zip(points, cells, strict=True)):
        start = cell - point
        end = np.roll(start, -1, axis=0)
        triangles = (start[:, 0] * end[:, 1] - start[:, 1] * end[:, 0]) / 2
        areas[index] = triangles.sum()
        integrals[index] = triangles @ (start**2 + start * end + end**2).sum(axis=1) / 6
    return areas, integrals


def _touches(cell: Floats) -> bool:
    following = np.roll(cell, -1, axis=0)
    on_side = (np.abs(np.abs(cell) - 1) < SHORT) & (np.abs(cell - following) < SHORT)
    return bool((on_side.any(axis=1) & (np.abs(cell - following).max(axis=1, initial=0) > SHORT)).any())
