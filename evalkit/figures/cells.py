"""Voronoi cells of a finite point set, cut off at a box."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Box = tuple[float, float, float, float]


def bounding_box(points: NDArray[np.float64]) -> Box:
    """(x_low, x_high, y_low, y_high) around `points` (n, 2), half the smallest distance between points away."""
    from scipy.spatial import cKDTree  # a third of a second

    distances, _ = cKDTree(points).query(points, k=2)
    margin = 0.5 * float(distances[:, 1].min())
    (x_low, y_low), (x_high, y_high) = points.min(axis=0) - margin, points.max(axis=0) + margin
    return float(x_low), float(x_high), float(y_low), float(y_high)


def clipped_cells(points: NDArray[np.float64], box: Box) -> list[NDArray[np.float64]]:
    """Corners (m, 2) of the Voronoi cell of each of `points` (n, 2), in turning order, within `box`.

    The points are mirrored at the four sides: then a cell of a point inside ends at the box by itself, exactly.

    Raises:
        ValueError: a point lies on or outside the box.
    """
    from scipy.spatial import Voronoi

    x_low, x_high, y_low, y_high = box
    x, y = points[:, 0], points[:, 1]
    if not ((x > x_low) & (x < x_high) & (y > y_low) & (y < y_high)).all():
        raise ValueError(f"points on or outside the box {box}")
    mirrored = [points]
    for low_or_high in (x_low, x_high):
        mirrored.append(np.column_stack([2 * low_or_high - x, y]))
    for low_or_high in (y_low, y_high):
        mirrored.append(np.column_stack([x, 2 * low_or_high - y]))
    diagram = Voronoi(np.concatenate(mirrored))
    cells = []
    for point, region in zip(points, diagram.point_region[: len(points)], strict=True):
        corners = diagram.vertices[diagram.regions[region]]
        angles = np.arctan2(*(corners - point).T[::-1])
        cells.append(corners[np.argsort(angles)])
    return cells
