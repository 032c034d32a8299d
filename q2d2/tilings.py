"""Point sets of the plane and their nearest point in closed form: the codebooks of Q2D2.

Convention, for levels (lx, ly): a column x in {-(lx-1)/2 + i} and a row y in {-(ly-1)/2 + i}, one apart. For odd levels
these are the integers -(l//2) .. l//2, for even levels half-integers. Dividing by `half_span` = ((lx-1)/2, (ly-1)/2)
maps the grid to [-1, 1]; the published quantizer divides by l//2, which stops short of the range for even levels.

rectangular: lx * ly points, every (x, y); x-major, index = ix * ly + iy.
rhombic: those, then the (lx-1) * (ly-1) centres of their cells, index = lx * ly + ix * (ly - 1) + iy.
hexagonal: lx * ly points, even rows moved by +1/4, odd rows by -1/4; row by row, index = iy * lx + ix.
hexagonal-regular: lx * ly points of the lattice A2, scaled into the same square; row by row too.

The first three are those of the published Q2D2 code (arXiv 2512.01537), numbered alike. Its hexagonal grid is not A2,
as its rows are 1 apart; it sticks out of the square by 1/4, and its mean is off zero where ly is odd.
"""

from __future__ import annotations

import math
import numbers
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from q2d2.errors import did_you_mean, shown
from q2d2.grids import GRIDS, Grid
from q2d2.registry import UnknownName

# Indices are formed in float32 before they become integers, and steps of 1/4 must stay exact there.
MAX_GRID = 2**20
# Pairs a CPU handles at a time: few enough that the temporaries stay in cache, enough to hide the cost of a call.
BLOCK = 2**17


class Tiling(nn.Module, ABC):
    """A finite set of numbered points of the plane and its nearest-point rule.

    Attributes:
        levels: (lx, ly), columns and rows.
        grid: the points as arrays.
        points: (num_points, 2) float32 buffer, row i = (x, y) of code i; moves with the module, and is no part of the
            state dict, as name and levels determine it.

    Args:
        lx: columns, an integer of at least 2.
        ly: rows, likewise.

    Raises:
        ValueError: a level is no integer or below 2, or lx * ly exceeds 2**20.
    """

    name: ClassVar[str]
    points: Tensor

    def __init__(self, lx: int, ly: int) -> None:
        super().__init__()
        self.levels = check_levels(lx, ly)
        self.grid = self._make_grid()
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
        return (self.levels[0] - 1) / 2, (self.levels[1] - 1) / 2

    @torch.no_grad()
    def nearest(self, pairs: Tensor) -> tuple[Tensor, Tensor]:
        """Nearest point of each pair, exact up to the rounding of the dtype, at any distance from the grid.

        Ties go either way. An infinite coordinate gives some point on the border of the grid; NaN gives index 0 and a
        point with NaN in it, to be noticed downstream. No gradient flows: straight-through is the caller's business.

        Args:
            pairs: (..., 2) float32 or float64, in the units of `points`.

        Returns:
            points (..., 2) in the dtype of `pairs`, equal to `self.points[indices]` to the bit; indices (...) int64.

        Raises:
            ValueError: the last dimension is not 2.
            TypeError: another dtype; half types are for the caller to convert.
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
        nearest_x, nearest_y, index = self._snap(pairs[:, 0].contiguous(), pairs[:, 1].contiguous())
        # int32 in between: CPUs convert float32 to int64 one number at a time.
        indices.copy_(index.nan_to_num_().to(torch.int32))
        for axis, (snapped, pitch) in enumerate(zip((nearest_x, nearest_y), self.grid.pitch, strict=True)):
            # Rounded as in `_place`, and to the dtype the buffer has now: equal to its rows to the bit.
            scaled = snapped if pitch == 1 else snapped.to(torch.float32).mul_(pitch)
            points[:, axis].copy_(scaled.to(self.points.dtype))

    def _make_grid(self) -> Grid:
        """The points."""
        return GRIDS[self.name](*self.levels)

    @abstractmethod
    def _snap(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Nearest x and y in units of the pitch, and code as floating point, as new tensors; all (n,)."""

    def _place(self, device: torch.device | None) -> Tensor:
        return torch.tensor(self.grid.points, device=device)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        was_meta = self.points.is_meta
        super()._apply(fn, recurse)
        if was_meta and not self.points.is_meta:  # `to_empty` leaves the memory unset, and no state dict sets it
            self.points.copy_(self._place(self.points.device))
        return self


class Rectangular(Tiling):
    """lx * ly points one apart: two scalar quantizers side by side, as in FSQ."""

    name = "rectangular"

    def _snap(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        (lx, ly), (half_x, half_y) = self.levels, self.half_span
        nearest_x, nearest_y = _snap_axis(x, lx), _snap_axis(y, ly)
        return nearest_x, nearest_y, torch.add(nearest_y, nearest_x, alpha=ly).add_(half_x * ly + half_y)


class Rhombic(Tiling):
    """lx * ly corners and the (lx-1) * (ly-1) centres between them: a square lattice turned by 45 degrees.

    Clamping to the square first is exact: the nearest point of a pair outside is that of its projection on the border,
    where only corners lie. Inside, the nearest corner competes with one centre.
    """

    name = "rhombic"

    def _snap(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        (lx, ly), (half_x, half_y) = self.levels, self.half_span
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


class Hexagonal(Tiling):
    """The published hexagon grid: rows one apart, even rows moved by +1/4 column, odd rows by -1/4.

    Rows moved alike form a rectangular grid; the nearest points of these grids compete.
    """

    name = "hexagonal"

    def __init__(self, lx: int, ly: int) -> None:
        super().__init__(lx, ly)
        shifts = self.grid.shifts
        self.grids: list[tuple[float, int, float, int]] = []  # shift; number, centre and step of its rows
        for shift in dict.fromkeys(shifts):
            rows = [row for row, own in enumerate(shifts) if own == shift]
            step = rows[1] - rows[0] if len(rows) > 1 else 1
            self.grids.append((shift, len(rows), (rows[0] + rows[-1] + 1 - len(shifts)) / 2, step))

    def _snap(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        lx, (half_x, half_y), (pitch_x, pitch_y) = self.levels[0], self.half_span, self.grid.pitch
        # An eighth, so that products with differences of up to 4 rows stay finite for every finite input.
        eighth_x, eighth_y = x * (0.125 / pitch_x), y * (0.125 / pitch_y)
        if pitch_x != 1:
            x, y = x / pitch_x, y / pitch_y
        (first_shift, count, centre, step), *others = self.grids
        nearest_x, nearest_y = _snap_axis(x, lx, first_shift), _snap_axis(y, count, centre, step)
        shift = torch.full_like(x, first_shift)
        for other_shift, count, centre, step in others:
            other_x, other_y = _snap_axis(x, lx, other_shift), _snap_axis(y, count, centre, step)
            # |q-p|^2 > |q-o|^2 as (p-o) . (q - (p+o)/2) < 0: squares would drown the difference far outside.
            change_x, change_y = nearest_x - other_x, nearest_y - other_y
            from_middle_x = torch.add(eighth_x, other_x.add_(nearest_x), alpha=-0.0625).mul_(change_x)
            from_middle_y = torch.add(eighth_y, other_y.add_(nearest_y), alpha=-0.0625).mul_(change_y)
            closer = from_middle_x.add_(from_middle_y, alpha=(pitch_y / pitch_x) ** 2).lt_(0.0)
            nearest_x.addcmul_(change_x, closer, value=-1)
            nearest_y.addcmul_(change_y, closer, value=-1)
            shift.addcmul_(other_shift - shift, closer)
        index = torch.add(nearest_x, nearest_y, alpha=lx).sub_(shift).add_(half_x + half_y * lx)
        return nearest_x, nearest_y, index


class HexagonalRegular(Hexagonal):
    """lx columns by ly rows of the lattice A2, equal to its own negative, scaled to the width of the square.

    For even ly the rows move by +1/4 and -1/4 column in turn. For odd ly that set could not equal its negative, as rows
    y and -y would move the same way; there the rows 0, 1, 2, 3, ... above the middle one move by 0, 1/2, 0, -1/2, ...
    and those below by the opposite: the same lattice, and with lx odd too the origin is a code.
    The width decides the scale: the outermost points touch x = -half_span[0] and half_span[0]; the rows, sqrt(3)/2 as
    far apart as the columns, end inside the square.
    """

    name = "hexagonal-regular"


TILINGS: dict[str, type[Tiling]] = {each.name: each for each in (Rectangular, Rhombic, Hexagonal, HexagonalRegular)}


def build_tiling(name: str, lx: int, ly: int) -> Tiling:
    """The tiling called `name` with lx columns and ly rows.

    Raises:
        UnknownName: no such tiling; the message suggests a close name.
        ValueError: a level is out of range, see `Tiling`.
    """
    if not isinstance(name, str) or name not in TILINGS:
        raise UnknownName(
            f"unknown tiling {shown(name)}.{did_you_mean(str(name), TILINGS)} Known: {', '.join(TILINGS)}."
        )
    return TILINGS[name](lx, ly)


def check_levels(lx: int, ly: int) -> tuple[int, int]:
    """The levels of a tiling as Python's integers.

    Raises:
        ValueError: see `Tiling`.
    """
    for level in (lx, ly):
        if not issubclass(type(level), numbers.Integral) or level < 2:  # NumPy's integers too
            raise ValueError(f"levels of a tiling are integers of at least 2, got {shown(level)}")
    if lx * ly > MAX_GRID:
        raise ValueError(f"levels {shown(lx)} x {shown(ly)} exceed {MAX_GRID} grid points")
    return int(lx), int(ly)


def _round_to_grid(values: Tensor, count: int) -> Tensor:
    """Nearest integer (count odd) or half-integer (count even), both without rounding error, in a new tensor."""
    return torch.round(values) if count % 2 else torch.floor(values).add_(0.5)


def _snap_axis(values: Tensor, count: int, centre: float = 0.0, step: int = 1) -> Tensor:
    """Nearest of centre + step * (i - (count-1)/2), i < count; exact for centre k/4 and step 2**k. A new tensor."""
    if centre:
        values = values - centre
    if step != 1:
        values = values * (1 / step)
    nearest = _round_to_grid(values, count).clamp_((1 - count) / 2, (count - 1) / 2)
    if step != 1:
        nearest *= step
    return nearest.add_(centre) if centre else nearest
