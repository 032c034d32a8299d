"""Point sets of the plane and their nearest point in closed form: the codebooks of Q2D2.

Convention, for levels (lx, ly): a column x in {-(lx-1)/2 + i} and a row y in {-(ly-1)/2 + i}, one apart. For odd levels
these are the integers -(l//2) .. l//2, for even levels half-integers, so that codes reach both ends of the range alike.
Dividing by `half_span` = ((lx-1)/2, (ly-1)/2) maps the grid to [-1, 1]; the published quantizer divides by l//2 instead,
which is the same for odd levels and stops short of the range for even ones.

| name              | points                                            | numbering                                     |
|-------------------|---------------------------------------------------|-----------------------------------------------|
| rectangular       | lx * ly, every (x, y)                             | x-major: ix * ly + iy                         |
| rhombic           | those, and the (lx-1) * (ly-1) centres of their   | corners x-major, then centres x-major:        |
|                   | cells: a square lattice turned by 45 degrees      | lx * ly + ix * (ly - 1) + iy                  |
| hexagonal         | lx * ly, even rows moved by +1/4, odd by -1/4     | row by row: iy * lx + ix                      |
| hexagonal-regular | lx * ly of the lattice A2, rows sqrt(3)/2 apart   | row by row: iy * lx + ix                      |

The first three are those of the published Q2D2 code, with its numbering. Its hexagonal grid has rows 1 apart, so it is
not A2, sticks out of the square by 1/4, and has its mean off zero where ly is odd. Distances are never tabulated.
"""

from __future__ import annotations

import difflib
import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn

from q2d2.registry import UnknownName

# Indices are formed in float32 before they become integers, and steps of 1/4 must stay exact there.
MAX_GRID = 2**20
# Pairs a CPU handles at a time: the dozen temporaries of one block stay in a core's cache.
BLOCK = 2**15


class Tiling(nn.Module, ABC):
    """A finite set of points of the plane, numbered, with its nearest-point rule.

    Attributes:
        name: the name it is known by in `TILINGS`.
        levels: (lx, ly), columns and rows.
        points: (num_points, 2) float32 buffer, row i = (x, y) of code i. It moves with the module, and is no part of
            the state dict because name and levels determine it.

    Args:
        lx: columns, an integer of at least 2.
        ly: rows, an integer of at least 2.

    Raises:
        ValueError: a level is no integer, is below 2, or lx * ly exceeds 2**20.
    """

    name: ClassVar[str]
    points: Tensor

    def __init__(self, lx: int, ly: int) -> None:
        super().__init__()
        self.levels = _check_levels(lx, ly)
        self.register_buffer("points", self._place(None), persistent=False)

    @property
    def num_points(self) -> int:
        """Number of codes."""
        return self.points.shape[0]

    @property
    def bits(self) -> float:
        """Nominal bits of one code: log2(num_points)."""
        return math.log2(self.num_points)

    @property
    def half_span(self) -> tuple[float, float]:
        """((lx-1)/2, (ly-1)/2): half the sides of the square that the columns and rows span."""
        lx, ly = self.levels
        return (lx - 1) / 2, (ly - 1) / 2

    @torch.no_grad()
    def nearest(self, pairs: Tensor) -> tuple[Tensor, Tensor]:
        """Nearest point of each pair, exact up to the rounding of the dtype, at any distance from the grid.

        Where several points are equally near, any of them is returned. An infinite coordinate gives some point on the
        border of the grid; NaN gives index 0 and a point with NaN in it, so that it is noticed downstream.
        No gradient flows through; the caller decides on a straight-through estimate.

        Args:
            pairs: (..., 2) float32 or float64, in the units of `points`. Half types: convert first.

        Returns:
            points (..., 2) of the dtype of `pairs`, equal to `self.points[indices]` to the bit; indices (...) int64
            in [0, num_points).

        Raises:
            ValueError: the last dimension is not 2.
            TypeError: `pairs` is neither float32 nor float64.
        """
        if pairs.ndim == 0 or pairs.shape[-1] != 2:
            raise ValueError(f"tiling {self.name}: expected pairs of shape (..., 2), got {tuple(pairs.shape)}")
        if pairs.dtype not in (torch.float32, torch.float64):
            raise TypeError(f"tiling {self.name}: expected float32 or float64 pairs, got {pairs.dtype}")
        flat = pairs.reshape(-1, 2)
        points = torch.empty_like(flat, memory_format=torch.contiguous_format)
        indices = torch.empty(flat.shape[0], dtype=torch.int64, device=pairs.device)
        if torch.compiler.is_compiling() or pairs.device.type != "cpu":
            self._fill(flat, points, indices)
        else:
            for start in range(0, flat.shape[0], BLOCK):
                block = slice(start, start + BLOCK)
                self._fill(flat[block], points[block], indices[block])
        return points.view(pairs.shape), indices.view(pairs.shape[:-1])

    def _fill(self, pairs: Tensor, points: Tensor, indices: Tensor) -> None:
        """Write the answer for pairs (n, 2) into points (n, 2) and indices (n,)."""
        nearest_x, nearest_y, index = self._snap(pairs[:, 0].contiguous(), pairs[:, 1].contiguous())
        # int32 in between: CPUs convert float32 to int64 one number at a time.
        indices.copy_(index.nan_to_num_(nan=0.0).to(torch.int32))
        for axis, (snapped, pitch) in enumerate(zip((nearest_x, nearest_y), self._pitch(), strict=True)):
            # Rounded as in `_place` and as the buffer may have been since: equal to its rows to the bit.
            scaled = snapped if pitch == 1 else snapped.to(torch.float32).mul_(pitch)
            points[:, axis].copy_(scaled.to(self.points.dtype))

    @abstractmethod
    def _lattice(self) -> list[tuple[float, float]]:
        """All points in the order of their codes, in units of the pitch; multiples of 1/4."""

    @abstractmethod
    def _snap(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Nearest x, nearest y in units of the pitch, and code as floating point; x and y (n,) are not changed."""

    def _pitch(self) -> tuple[float, float]:
        """Distance of two columns and of two rows."""
        return 1.0, 1.0

    def _place(self, device: torch.device | None) -> Tensor:
        lattice = torch.tensor(self._lattice(), dtype=torch.float32, device=device)
        for axis, pitch in enumerate(self._pitch()):
            lattice[:, axis].mul_(pitch)
        return lattice

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        was_meta = self.points.is_meta
        super()._apply(fn, recurse)
        if was_meta and not self.points.is_meta:
            # `to_empty` leaves memory as it finds it, and no state dict brings the points.
            self.points.copy_(self._place(self.points.device))
        return self

    def extra_repr(self) -> str:
        return f"levels={self.levels}, num_points={self.num_points}, bits={self.bits:.2f}"


class Rectangular(Tiling):
    """lx * ly points one apart: two scalar quantizers side by side, as in FSQ."""

    name = "rectangular"

    def _lattice(self) -> list[tuple[float, float]]:
        lx, ly = self.levels
        return [(x, y) for x in _centred(lx) for y in _centred(ly)]

    def _snap(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        lx, ly = self.levels
        nearest_x, nearest_y = _Progression(0.0, 1, lx).snap(x), _Progression(0.0, 1, ly).snap(y)
        half_x, half_y = self.half_span
        return nearest_x, nearest_y, torch.add(nearest_y, nearest_x, alpha=ly).add_(half_x * ly + half_y)


class Rhombic(Tiling):
    """lx * ly corners and the (lx-1) * (ly-1) centres between them: a square lattice turned by 45 degrees.

    Outside the square the nearest point is the one nearest to the closest point of the square: it lies on the border,
    which holds corners only. So coordinates are clamped first; then the corner competes with one centre.
    """

    name = "rhombic"

    def _lattice(self) -> list[tuple[float, float]]:
        lx, ly = self.levels
        corners = [(x, y) for x in _centred(lx) for y in _centred(ly)]
        return corners + [(x, y) for x in _centred(lx - 1) for y in _centred(ly - 1)]

    def _snap(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        lx, ly = self.levels
        half_x, half_y = self.half_span
        x, y = x.clamp(-half_x, half_x), y.clamp(-half_y, half_y)
        nearest_x, nearest_y = _round_to_grid(x, lx), _round_to_grid(y, ly)
        rest_x, rest_y = x.sub_(nearest_x), y.sub_(nearest_y)
        # On the border one rest is 0 and the other at most 1/2: no centre is taken beyond it.
        centre = rest_x.abs().add_(rest_y.abs()).gt_(0.5)
        step = centre * 0.5
        nearest_x += torch.copysign(step, rest_x)
        nearest_y += torch.copysign(step, rest_y)
        index = torch.add(nearest_y, nearest_x, alpha=ly).add_(half_x * ly + half_y)
        # Centre: lx*ly + (x + half_x - 1/2)*(ly - 1) + (y + half_y - 1/2), less the line above.
        index.addcmul_(nearest_x.neg().add_(lx * ly - half_x - ly / 2), centre)
        return nearest_x, nearest_y, index


class _Progression(NamedTuple):
    """The numbers centre + step * (i - (count-1)/2), i = 0 .. count-1; centre a multiple of 1/4, step a power of 2."""

    centre: float
    step: int
    count: int

    def snap(self, values: Tensor) -> Tensor:
        """The nearest of them to each value, in a new tensor of the shape and dtype of `values`."""
        if self.centre:
            values = values - self.centre
        if self.step != 1:
            values = values * (1 / self.step)
        half = (self.count - 1) / 2
        nearest = _round_to_grid(values, self.count).clamp_(-half, half)
        if self.step != 1:
            nearest *= self.step
        return nearest.add_(self.centre) if self.centre else nearest


class _RowGroup(NamedTuple):
    """Every second or fourth row, all moved by the same shift: a rectangular grid of its own."""

    shift: float
    columns: _Progression
    rows: _Progression


class _ShiftedRows(Tiling):
    """Rows of lx points, each moved sideways by its shift; rows of one shift form a rectangular grid.

    The nearest point of each such grid is found axis by axis, then the nearest of these two or three is kept.
    """

    def __init__(self, lx: int, ly: int) -> None:
        super().__init__(lx, ly)
        lx, ly = self.levels
        shifts = self._shifts()
        self._groups: list[_RowGroup] = []
        for shift in dict.fromkeys(shifts):
            rows = [row for row, own in enumerate(shifts) if own == shift]
            step = rows[1] - rows[0] if len(rows) > 1 else 1
            centre = (rows[0] + rows[-1] - (ly - 1)) / 2
            self._groups.append(_RowGroup(shift, _Progression(shift, 1, lx), _Progression(centre, step, len(rows))))

    @abstractmethod
    def _shifts(self) -> list[float]:
        """Shift of each row in columns, with period 2 or 4 along the rows."""

    def _lattice(self) -> list[tuple[float, float]]:
        lx, ly = self.levels
        return [(x + shift, y) for shift, y in zip(self._shifts(), _centred(ly), strict=True) for x in _centred(lx)]

    def _snap(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        lx, _ = self.levels
        pitch_x, pitch_y = self._pitch()
        # An eighth of the coordinate keeps products with differences of up to 4 rows finite for every finite input.
        eighth_x, eighth_y = x * (0.125 / pitch_x), y * (0.125 / pitch_y)
        if pitch_x != 1:
            x, y = x / pitch_x, y / pitch_y
        first, *others = self._groups
        nearest_x, nearest_y = first.columns.snap(x), first.rows.snap(y)
        shift = torch.full_like(x, first.shift)
        for group in others:
            other_x, other_y = group.columns.snap(x), group.rows.snap(y)
            # |q-p|^2 > |q-o|^2 as (p-o) . (q - (p+o)/2) < 0: squares would drown the difference far outside.
            change_x, change_y = nearest_x - other_x, nearest_y - other_y
            from_middle_x = torch.add(eighth_x, other_x.add_(nearest_x), alpha=-0.0625).mul_(change_x)
            from_middle_y = torch.add(eighth_y, other_y.add_(nearest_y), alpha=-0.0625).mul_(change_y)
            closer = from_middle_x.add_(from_middle_y, alpha=(pitch_y / pitch_x) ** 2).lt_(0.0)
            nearest_x.addcmul_(change_x, closer, value=-1)
            nearest_y.addcmul_(change_y, closer, value=-1)
            shift.addcmul_(group.shift - shift, closer)
        half_x, half_y = self.half_span
        index = torch.add(nearest_x, nearest_y, alpha=lx).sub_(shift).add_(half_x + half_y * lx)
        return nearest_x, nearest_y, index


class Hexagonal(_ShiftedRows):
    """The published hexagon grid: rows one apart, even rows moved by +1/4 column, odd rows by -1/4."""

    name = "hexagonal"

    def _shifts(self) -> list[float]:
        return [0.25 if row % 2 == 0 else -0.25 for row in range(self.levels[1])]


class HexagonalRegular(_ShiftedRows):
    """lx columns by ly rows of the lattice A2, equal to its own negative, scaled to the width of the square.

    All six neighbours of an inner point are one column pitch away; rows are sqrt(3)/2 of it apart. For even ly the rows
    move by +1/4 and -1/4 column in turn. For odd ly that set cannot equal its negative, as rows y and -y would be moved
    the same way; there the rows at distance 0, 1, 2, 3, ... above the middle move by 0, 1/2, 0, -1/2, ... and those
    below by the opposite, which is the same lattice; with lx odd too, the origin is a code.
    The width decides the scale: the outermost points touch the left and right sides, x = -half_span[0] and
    half_span[0], while the rows stay sqrt(3)/2 as far apart as the columns and so end within the square.
    """

    name = "hexagonal-regular"

    def _shifts(self) -> list[float]:
        _, ly = self.levels
        if ly % 2 == 0:
            return [0.25 if row % 2 == 0 else -0.25 for row in range(ly)]
        return [(0.0, 0.5, 0.0, -0.5)[(row - ly // 2) % 4] for row in range(ly)]

    def _pitch(self) -> tuple[float, float]:
        half_x, _ = self.half_span
        column = half_x / (half_x + max(self._shifts()))
        return column, column * math.sqrt(3) / 2


TILINGS: dict[str, type[Tiling]] = {
    tiling.name: tiling for tiling in (Rectangular, Rhombic, Hexagonal, HexagonalRegular)
}


def build_tiling(name: str, lx: int, ly: int) -> Tiling:
    """The tiling called `name` with lx columns and ly rows.

    Raises:
        UnknownName: no such tiling; the message suggests a close name.
        ValueError: a level is out of range, see `Tiling`.
    """
    if name not in TILINGS:
        close = difflib.get_close_matches(name, TILINGS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise UnknownName(f"unknown tiling {name!r}.{hint} Known: {', '.join(TILINGS)}.")
    return TILINGS[name](lx, ly)


def _check_levels(lx: int, ly: int) -> tuple[int, int]:
    for level in (lx, ly):
        try:
            too_small = operator.index(level) < 2
        except TypeError:
            raise ValueError(f"levels of a tiling are integers of at least 2, got {level!r}") from None
        if too_small:
            raise ValueError(f"levels of a tiling are at least 2, got {level}")
    lx, ly = operator.index(lx), operator.index(ly)
    if lx * ly > MAX_GRID:
        raise ValueError(f"levels {lx} x {ly} exceed {MAX_GRID} grid points")
    return lx, ly


def _centred(count: int) -> list[float]:
    """`count` numbers one apart around 0."""
    return [i - (count - 1) / 2 for i in range(count)]


def _round_to_grid(values: Tensor, count: int) -> Tensor:
    """Nearest integer (count odd) or half-integer (count even), both without rounding error, in a new tensor."""
    return torch.round(values) if count % 2 else torch.floor(values).add_(0.5)
