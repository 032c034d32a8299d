"""Beyond the plane: groups of 2, 4 or 8 latent channels snapped to the lattice A2, D4 or E8; the frame is Q2D2's."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from q2d2.families import Family, even_levels
from q2d2.lattices import LATTICES, Lattice
from q2d2.limits import require_list
from q2d2.snapping import Gradient, SnappingBottleneck


class LatticeQuantizer(SnappingBottleneck):
    """Project to d channels, tanh, scale to the box, snap each group of channels to its lattice, project back.

    Codes are one index a group, numbered as the lattice numbers its points. No table of points is kept, so that a group
    can have up to 2**63 of them. There is no auxiliary loss.

    Args:
        dim: channels of the latents.
        lattice: "a2", "d4" or "e8", of 2, 4 or 8 channels (see `q2d2.lattices`).
        levels: levels of each group, integers of at least 2 (a2: 3), at least one group; channels 0 .. n-1 form the
            first group of n, and so on.
        gradient: as `Q2D2`'s: "unit", or "published", which divides it by half the span (levels - 1) / 2.

    Raises:
        UnknownName: no such lattice.
        ValueError: no levels or one out of range, an unknown gradient, or latents or codes of another shape.
    """

    def __init__(
        self, dim: int, lattice: str = "d4", levels: Sequence[int] = (7, 7), gradient: Gradient = "unit"
    ) -> None:
        require_list("levels", levels)
        if len(levels) < 1:
            raise ValueError("levels []: expected one integer a group of channels, at least one group")
        lattices = tuple(Lattice(lattice, level) for level in levels)
        super().__init__(dim, [each.levels for each in lattices for _ in range(each.channels)], gradient)
        self.lattices = lattices
        self.codebook_sizes = tuple(each.num_points for each in lattices)

    @classmethod
    def families(cls) -> list[Family]:
        return [_family(name, channels) for name, (channels, *_) in LATTICES.items()]

    def _sets(self) -> tuple[Lattice, ...]:
        return self.lattices

    def _look_up(self, group: int, codes: Tensor) -> Tensor:
        return self.lattices[group].points(codes)


def _family(lattice: str, group: int) -> Family:
    @functools.cache
    def bits_of_group(level: int) -> float:
        return Lattice(lattice, level).bits

    def nearest(bits: float, channels: int) -> tuple[dict[str, Any], float]:
        levels, total = even_levels(bits, max(1, round(channels / group)), bits_of_group)
        return {"levels": levels}, total

    return Family(lattice, nearest, {"lattice": lattice}, group=group, channels_per_level=group)
