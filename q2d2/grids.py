"""The numbered points of the tilings as arrays, without torch: see q2d2/tilings.py for the convention."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float32]


class Grid(NamedTuple):
    """A finite set of points of the plane.

    levels: (lx, ly), columns and rows.
    lattice: (num_points, 2) in the order of their codes, in units of the pitch; multiples of 1/4.
    pitch: distance of two columns and of two rows.
    shifts: of each row, in columns; empty where no row is moved.
    """

    levels: tuple[int, int]
    lattice: Points
    pitch: tuple[float, float] = (1.0, 1.0)
    shifts: tuple[float, ...] = ()

    @property
    def points(self) -> Points:
        """(num_points, 2), equal to `Tiling.points` to the bit."""
        return self.lattice * np.array(self.pitch, np.float32)


def rectangular(lx: int, ly: int) -> Grid:
    return Grid((lx, ly), _product(lx, ly))


def rhombic(lx: int, ly: int) -> Grid:
    return Grid((lx, ly), np.concatenate([_product(lx, ly), _product(lx - 1, ly - 1)]))


def hexagonal(lx: int, ly: int) -> Grid:
    return _shifted(lx, ly, _alternating(ly))


def hexagonal_regular(lx: int, ly: int) -> Grid:
    """See `q2d2.tilings.HexagonalRegular`."""
    shifts = _alternating(ly)
    if ly % 2:
        shifts = tuple((0.0, 0.5, 0.0, -0.5)[(row - ly // 2) % 4] for row in range(ly))
    half = (lx - 1) / 2
    column = half / (half + max(shifts))
    return _shifted(lx, ly, shifts, (column, column * math.sqrt(3) / 2))


GRIDS: dict[str, Callable[[int, int], Grid]] = {
    "rectangular": rectangular, "rhombic": rhombic, "hexagonal": hexagonal, "hexagonal-regular": hexagonal_regular,
}  # fmt: skip


def _centred(count: int) -> Points:
    return np.arange(count, dtype=np.float32) - np.float32((count - 1) / 2)


def _product(lx: int, ly: int) -> Points:
    """Column by column."""
    return np.stack([np.repeat(_centred(lx), ly), np.tile(_centred(ly), lx)], axis=1)


def _alternating(ly: int) -> tuple[float, ...]:
    return tuple(0.25 if row % 2 == 0 else -0.25 for row in range(ly))


def _shifted(lx: int, ly: int, shifts: tuple[float, ...], pitch: tuple[float, float] = (1.0, 1.0)) -> Grid:
    """Row by row."""
    columns = _centred(lx) + np.array(shifts, np.float32)[:, None]
    return Grid((lx, ly), np.stack([columns.ravel(), np.repeat(_centred(ly), lx)], axis=1), pitch, shifts)
