"""Q2D2: pairs of latent channels snapped to the nearest point of a fixed tiling (arXiv 2512.01537, section 3)."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from q2d2.errors import shown
from q2d2.families import Family, even_levels
from q2d2.limits import MAX_POINTS, require_list
from q2d2.snapping import SPAN_MARGIN, Gradient, SnappingBottleneck
from q2d2.tilings import TILINGS, Tiling, build_tiling, check_levels

__all__ = ["Q2D2", "SPAN_MARGIN", "Gradient"]


class Q2D2(SnappingBottleneck):
    """Project to d channels, tanh, scale, snap each pair of channels to its tiling, project back.

    Codes are one index per pair, numbered as the tiling numbers its points. There is no auxiliary loss.

    Args:
        dim: channels of the latents.
        tiling: "rectangular", "rhombic", "hexagonal" (the published grid) or "hexagonal-regular" (the A2 lattice).
        levels: levels of each channel, an even number of integers >= 2; channels (0, 1), (2, 3), ... form pairs.
        gradient: "unit" passes the gradient straight through on the scaled value, so that it reaches tanh with
            factor 1; "published" does so on the unscaled value and then divides by half the span, which multiplies the
            gradient by 1/4 on 9-level and 1/3 on 7-level channels. The forward values are the same.

    Raises:
        ValueError: an odd number of levels, a level below 2, or an unknown tiling or gradient; or latents or codes of
            another shape.
    """

    def __init__(
        self,
        dim: int,
        tiling: str = "rhombic",
        levels: Sequence[int] = (9, 9, 7, 7, 7, 7),
        gradient: Gradient = "unit",
    ) -> None:
        require_list("levels", levels)
        if len(levels) < 2 or len(levels) % 2:
            raise ValueError(f"levels {shown(list(levels))}: Q2D2 pairs channels, so it needs an even number of levels")
        pairs = [check_levels(lx, ly) for lx, ly in zip(levels[::2], levels[1::2], strict=True)]
        if (total := 2 * sum(lx * ly for lx, ly in pairs)) > MAX_POINTS:
            raise ValueError(
                f"levels {shown(list(levels))}: grids of {total:,} points, expected at most {MAX_POINTS:,}"
            )
        # Before the frame, so that a bad level is named rather than computed with.
        tilings = [build_tiling(tiling, lx, ly) for lx, ly in pairs]
        super().__init__(dim, levels, gradient)
        self.levels = tuple(levels)
        self.tilings = nn.ModuleList(tilings)
        self.codebook_sizes = tuple(grid.num_points for grid in tilings)

    @classmethod
    def families(cls) -> list[Family]:
        return [_family(name) for name in TILINGS]

    def frame_index(self, codes: Tensor) -> Tensor:
        """Codes (batch, pairs, frames) -> one index per frame (batch, frames) int64, as the published model has it.

        Raises:
            ValueError: the frame has more than 2**63 codes, so that no int64 can number them.
        """
        if math.prod(self.codebook_sizes) > 2**63:
            raise ValueError(f"{math.prod(self.codebook_sizes):.3g} codes per frame do not fit an int64 index")
        strides = [math.prod(self.codebook_sizes[:j]) for j in range(len(self.codebook_sizes))]
        return (codes * torch.tensor(strides, device=codes.device)[:, None]).sum(dim=1)

    def published_state(self) -> dict[str, Tensor]:
        return {
            f"quantizer.vq.{name.replace('project_in.', 'project_in.0.')}": tensor
            for name, tensor in self.state_dict().items()
        }

    def _sets(self) -> list[Tiling]:
        return [grid for grid in self.tilings if isinstance(grid, Tiling)]

    def _look_up(self, group: int, codes: Tensor) -> Tensor:
        # Unlike points[codes], an embedding refuses negative codes.
        return F.embedding(codes, self._sets()[group].points)


def _family(tiling: str) -> Family:
    @functools.cache
    def bits_of_pair(level: int) -> float:
        return build_tiling(tiling, level, level).bits

    def nearest(bits: float, channels: int) -> tuple[dict[str, Any], float]:
        levels, total = even_levels(bits, max(1, round(channels / 2)), bits_of_pair)
        return {"levels": [level for level in levels for _ in range(2)]}, total

    return Family(tiling, nearest, {"tiling": tiling}, group=2)
