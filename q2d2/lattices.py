"""Lattices of 2, 4 and 8 channels cut to a box: their nearest point in closed form, and codes without a table.

For levels L the box is |x_i| <= (L-1)/2 in every channel. What it leaves equals its own negative in all three:

a2: the hexagonal lattice: integer columns on the rows sqrt(3) j, half-integer columns on the rows sqrt(3) (j + 1/2).
d4: integer vectors with an even sum. For even L, where the border lies on half-integers, these moved by
    (1/2, ..., 1/2): D4 about one of its holes, so that 0 is no point.
e8: integer vectors with an even sum, and these moved by (1/2, ..., 1/2).

So each consists of one or two grids with steps of 1, and along an axis the one that touches the border has L values.
Between the borders lie O integers and H half-integers: (O, H) = (L, L-1) for odd L, (L-1, L) for even L. Points:

a2: O (2 floor((L-1) / sqrt(12)) + 1) + 2 H ceil(floor((L-1) / sqrt(3)) / 2).
d4: ceil(L^4 / 2).
e8: (O^8 + 1) / 2 + H^8 / 2.

The nearest points of the infinite lattices are those of Conway and Sloane, "Fast quantizing and decoding algorithms for
lattice quantizers and codes", IEEE Trans. Inf. Theory 28 (1982); the box is ours.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from q2d2.errors import did_you_mean, shown
from q2d2.registry import UnknownName

# Half-integers up to this size, and sums of eight, are exact in float32.
MAX_LEVELS = 2**20
# Numbers a CPU handles at a time: few enough that the temporaries stay in cache, enough to hide the cost of a call.
BLOCK = 2**17


@dataclass(frozen=True)
class Box:
    """All points of a rectangular grid centred on 0: digit k of axis i stands for (k - (counts[i]-1)/2) * pitches[i].

    The rank of a point is the mixed-radix number of its digits, the first axis slowest.

    Attributes:
        counts: grid lines of each axis, at least 1.
        pitches: their distances.
    """

    counts: tuple[int, ...]
    pitches: tuple[float, ...]

    @property
    def num_points(self) -> int:
        """Number of points."""
        return math.prod(self.counts)

    def snap(self, values: Tensor) -> Tensor:
        """Digits (channels, n), as floating point, of the point nearest to each column of `values` (channels, n)."""
        rows = []
        for row, count, pitch in zip(values, self.counts, self.pitches, strict=True):
            rows.append((row / pitch + (count - 1) / 2).round_().clamp_(0, count - 1))
        return torch.stack(rows)

    def place(self, digits: Tensor) -> Tensor:
        """Digits (channels, n) in floating point -> points (channels, n)."""
        axes = zip(digits, self.counts, self.pitches, strict=True)
        return torch.stack([(row - (count - 1) / 2) * pitch for row, count, pitch in axes])

    def rank(self, digits: Tensor) -> Tensor:
        """Digits (channels, n) in floating point -> ranks (n,) int64; a missing digit counts as 0."""
        # int32 in between: CPUs convert float32 to int64 one number at a time.
        whole = digits.nan_to_num().to(torch.int32)
        total = whole[0].to(torch.int64)
        for row, count in zip(whole[1:], self.counts[1:], strict=True):
            total.mul_(count).add_(row)
        return total

    def digits(self, ranks: Tensor) -> Tensor:
        """The inverse of `rank`: (n,) int64 -> (channels, n) int64."""
        rows = []
        for count in reversed(self.counts):
            rows.append(ranks % count)
            ranks = ranks // count
        return torch.stack(rows[::-1])


class EvenBox(Box):
    """Those points of a cube of `count` grid lines, one apart, whose digits have an even sum: D_n, or it moved.

    The rank of a point is half its rank in the whole cube, rounded down. With an odd count a rank in the cube is even
    just where the sum of its digits is; with an even count ranks 2 i and 2 i + 1 differ in the last digit only, and one
    of the two is a point.
    """

    def __init__(self, count: int, channels: int) -> None:
        super().__init__((count,) * channels, (1.0,) * channels)

    @property
    def num_points(self) -> int:
        return (super().num_points + 1) // 2

    def snap(self, values: Tensor) -> Tensor:
        half = (self.counts[0] - 1) / 2
        nearest = values.round() if self.counts[0] % 2 else values.floor().add_(0.5)
        nearest.clamp_(-half, half)
        rest = values - nearest
        # Where the sum is odd, some channel has to take its second best, which is one step away. The step towards the
        # value costs 1 - 2 |rest|. On the border and beyond only the step back is in the box: 1 + 2 |rest|.
        way = (values.abs() >= half).to(values.dtype).mul_(-2.0).add_(1.0)
        cheapest = _largest(rest.abs().mul_(way))[None]
        way, rest, values = (each.gather(0, cheapest) for each in (way, rest, values))
        towards = torch.where(way < 0, -values, rest)
        digits = nearest.add_(half)
        is_odd = digits.sum(dim=0, keepdim=True).remainder_(2.0)
        return digits.scatter_add_(0, cheapest, torch.copysign(is_odd, towards))

    def place(self, digits: Tensor) -> Tensor:
        return digits - (self.counts[0] - 1) / 2

    def rank(self, digits: Tensor) -> Tensor:
        return super().rank(digits) >> 1

    def digits(self, ranks: Tensor) -> Tensor:
        digits = super().digits(ranks * 2)
        digits[-1] += digits.sum(dim=0) % 2
        return digits


class Lattice:
    """A lattice cut to a box, its points numbered box by box: first that of integers.

    Attributes:
        name: of the lattice.
        levels: L, grid lines along an axis; the box is |x_i| <= (L-1)/2.
        channels: of a point.
        boxes: the one or two grids it consists of.

    Args:
        name: "a2", "d4" or "e8".
        levels: an integer of at least 2; for a2 at least 3, as 2 leave only the origin.

    Raises:
        UnknownName: no such lattice; the message suggests a close name.
        ValueError: the levels are out of range, or the points too many for an int64.
    """

    def __init__(self, name: str, levels: int) -> None:
        if not isinstance(name, str) or name not in LATTICES:
            hint = did_you_mean(str(name), LATTICES)
            raise UnknownName(f"unknown lattice {shown(name)}.{hint} Known: {', '.join(LATTICES)}.")
        self.channels, least, cut = LATTICES[name]
        if not issubclass(type(levels), numbers.Integral) or not least <= levels <= MAX_LEVELS:  # NumPy's integers too
            raise ValueError(f"levels of lattice {name} are integers in {least}..{MAX_LEVELS}, got {shown(levels)}")
        self.name, self.levels = name, int(levels)
        self.boxes = cut(self.levels)
        if max(math.prod(box.counts) for box in self.boxes) > 2**63:
            most = math.floor(2 ** (63 / self.channels))
            raise ValueError(f"lattice {name}: more points at {levels} levels than an int64 can number; at most {most}")

    @property
    def num_points(self) -> int:
        """Number of points, and of codes."""
        return sum(box.num_points for box in self.boxes)

    @property
    def bits(self) -> float:
        """Nominal bits of one code: log2(num_points)."""
        return math.log2(self.num_points)

    @torch.no_grad()
    def nearest(self, groups: Tensor) -> tuple[Tensor, Tensor]:
        """Nearest point of each group of channels, exact up to the rounding of the dtype, inside and outside the box.

        Ties go either way. An infinite channel gives some point; NaN gives some code and a point with NaN in it, to be
        noticed downstream. No gradient flows: straight-through is the caller's business.

        Args:
            groups: (..., channels) float32 or float64.

        Returns:
            points (..., channels) in the dtype of `groups`, equal to `self.points(codes, dtype)` to the bit;
            codes (...) int64 in [0, num_points).

        Raises:
            ValueError: the last dimension is not `channels`.
            TypeError: another dtype; half types are for the caller to convert.
        """
        if groups.ndim == 0 or groups.shape[-1] != self.channels:
            raise ValueError(f"lattice {self.name}: expected groups (..., {self.channels}), got {tuple(groups.shape)}")
        if groups.dtype not in (torch.float32, torch.float64):
            raise TypeError(f"lattice {self.name}: expected float32 or float64 groups, got {groups.dtype}")
        flat = groups.reshape(-1, self.channels)
        points = torch.empty_like(flat, memory_format=torch.contiguous_format)
        codes = torch.empty(flat.shape[0], dtype=torch.int64, device=groups.device)
        blockwise = groups.device.type == "cpu" and not torch.compiler.is_compiling()
        step = BLOCK // self.channels if blockwise else max(1, flat.shape[0])
        for start in range(0, flat.shape[0], step):
            block = slice(start, start + step)
            # A row a channel: long rows keep the processor busy, where groups of 2 to 8 numbers do not.
            snapped, codes[block] = self._snap(flat[block].T.contiguous())
            points[block] = snapped.T
        return points.view(groups.shape), codes.view(groups.shape[:-1])

    def points(self, codes: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Codes (...) int64 -> points (..., channels).

        Raises:
            IndexError: a code outside [0, num_points).
        """
        if codes.numel() and not codes.is_meta and (codes.min() < 0 or codes.max() >= self.num_points):
            span = f"{int(codes.min())}..{int(codes.max())}"
            raise IndexError(f"lattice {self.name}: codes {span} are outside 0..{self.num_points - 1}")
        ranks = codes.reshape(-1)
        first, *others = self.boxes
        points = first.place(first.digits(ranks).to(dtype))
        offset = first.num_points
        for box in others:
            points = torch.where(ranks >= offset, box.place(box.digits(ranks - offset).to(dtype)), points)
            offset += box.num_points
        return points.T.reshape(*codes.shape, self.channels)

    def _snap(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Values (channels, n) -> points likewise and codes (n,)."""
        first, *others = self.boxes
        digits = first.snap(values)
        points, codes, offset = first.place(digits), first.rank(digits), first.num_points
        for box in others:
            digits = box.snap(values)
            rival = box.place(digits)
            # |v-p|^2 > |v-r|^2 as (p-r) . (v - (p+r)/2) < 0: squares would drown the difference far outside. A
            # sixteenth of it, so that the sum over eight channels stays finite for every finite input.
            from_middle = torch.add(values * 0.0625, points + rival, alpha=-0.03125)
            closer = (points - rival).mul_(from_middle).sum(dim=0) < 0
            points = torch.where(closer, rival, points)
            codes = torch.where(closer, box.rank(digits) + offset, codes)
            offset += box.num_points
        return points, codes


def _largest(gains: Tensor) -> Tensor:
    """Row (n,) int64 in which each column of `gains` (rows, n) is largest: `argmax`, whose CPU kernel is slow here."""
    best, row = gains[0], torch.zeros_like(gains[0], dtype=torch.int64)
    for index, rival in enumerate(gains[1:], start=1):
        row.masked_fill_(rival > best, index)
        best = torch.maximum(best, rival)
    return row


def _cut_a2(levels: int) -> tuple[Box, ...]:
    whole, halves = _whole_and_halves(levels)
    # Rows j sqrt(3) with 12 j^2 <= (L-1)^2, and m sqrt(3) / 2 with odd m and 3 m^2 <= (L-1)^2: in integers, so exact.
    whole_rows = 2 * math.isqrt((levels - 1) ** 2 // 12) + 1
    half_rows = 2 * ((math.isqrt((levels - 1) ** 2 // 3) + 1) // 2)
    pitches = (1.0, math.sqrt(3))
    return Box((whole, whole_rows), pitches), Box((halves, half_rows), pitches)


def _cut_d4(levels: int) -> tuple[Box, ...]:
    return (EvenBox(levels, 4),)


def _cut_e8(levels: int) -> tuple[Box, ...]:
    return tuple(EvenBox(count, 8) for count in _whole_and_halves(levels))


def _whole_and_halves(levels: int) -> tuple[int, int]:
    """How many integers and how many half-integers lie in [-(L-1)/2, (L-1)/2]."""
    return (levels, levels - 1) if levels % 2 else (levels - 1, levels)


# Channels, fewest levels, and what the box leaves.
LATTICES: dict[str, tuple[int, int, Callable[[int], tuple[Box, ...]]]] = {
    "a2": (2, 3, _cut_a2),
    "d4": (4, 2, _cut_d4),
    "e8": (8, 2, _cut_e8),
}
