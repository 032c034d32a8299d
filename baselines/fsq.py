"""Finite scalar quantization over vector-quantize-pytorch (arXiv 2309.15505)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import vector_quantize_pytorch as vqpt
from torch import Tensor, nn

from baselines.projected import ProjectedBottleneck, require
from q2d2.errors import shown
from q2d2.families import Family, even_levels
from q2d2.limits import require_list
from q2d2.projection import fit_projections


class FSQ(ProjectedBottleneck):
    """Project to one channel per level, bound each by tanh, round it, project back. There is no auxiliary loss.

    There is one code per channel (`codebook_sizes` = levels), not one per frame as in the paper: the bits per frame are
    the same, but the usage of prod(levels) codes (easily a million) tells nothing over a few thousand frames, while
    that of the channels compares with Q2D2's pairs. The paper's index is the mixed radix number
    sum_j codes[j] * prod(levels[:j]).

    Args:
        dim: channels of the latents.
        levels: number of values of each channel, each an integer in 3..1000 (the library has no 2 in this form, and
            beyond 1000 its margin of 1e-3 rounds to a value outside the range).

    Raises:
        ValueError: no levels or one out of range, or latents or codes have another shape.
    """

    is_product = True
    halves: Tensor

    def __init__(self, dim: int, levels: Sequence[int] = (8, 5, 5, 5)) -> None:
        require_list("levels", levels)
        require(
            len(levels) >= 1 and all(isinstance(level, int) and 3 <= level <= 1000 for level in levels),
            f"levels {shown(list(levels))}: expected integers in 3..1000, at least one",
        )
        super().__init__(dim, len(levels), project=True)
        self.rounding = vqpt.FSQ(
            levels=list(levels),
            dim=len(levels),  # as many as the levels: the projections are ours
            num_codebooks=1,
            channel_first=False,
            return_indices=False,  # an index of the whole frame would build a table of prod(levels) codes
            force_quantization_f32=True,
            preserve_symmetry=False,
            noise_dropout=0.0,
            bound_hard_clamp=False,
            orthogonal_rotation=False,
        )
        self.codebook_sizes = tuple(levels)
        # The library's values are k / (level // 2), k from -(level // 2); halves move with the module, not the state.
        self.register_buffer("halves", torch.tensor([level // 2 for level in levels]), persistent=False)

    @classmethod
    def families(cls) -> list[Family]:
        return [Family("fsq", _nearest, group=1)]

    def fit(self, latents: Tensor) -> None:
        assert isinstance(self.project_in, nn.Linear)
        assert isinstance(self.project_out, nn.Linear)
        fit_projections(self.project_in, self.project_out, latents)

    def quantize(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        rounded, codes = self._round(frames)
        return self.lookup(codes), rounded, codes, frames.new_zeros(())

    def nearest(self, frames: Tensor) -> Tensor:
        return self._round(frames)[1]

    def lookup(self, codes: Tensor) -> Tensor:
        return (codes - self.halves) / self.halves

    def _round(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        rounded, _ = self.rounding(frames)
        return rounded, (rounded.detach() * self.halves + self.halves).round().long()


def _nearest(bits: float, channels: int) -> tuple[dict[str, Any], float]:
    levels, total = even_levels(bits, channels, math.log2)
    return {"levels": levels}, total
