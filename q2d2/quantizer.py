"""Q2D2: pairs of latent channels snapped to the nearest point of a fixed tiling (arXiv 2512.01537, section 3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, Self, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from q2d2.bottleneck import Bottleneck, BottleneckOutput
from q2d2.projection import fit_projections
from q2d2.tilings import Tiling, build_tiling

Gradient = Literal["unit", "published"]

# tanh only reaches +-1 at infinity; the published margin lets finite inputs reach the border points.
SPAN_MARGIN = 1e-3


class Q2D2(Bottleneck):
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

    is_product = True
    half_spans: Tensor

    def __init__(
        self,
        dim: int,
        tiling: str = "rhombic",
        levels: Sequence[int] = (9, 9, 7, 7, 7, 7),
        gradient: Gradient = "unit",
    ) -> None:
        super().__init__(dim)
        if len(levels) < 2 or len(levels) % 2:
            raise ValueError(f"levels {list(levels)}: Q2D2 pairs channels, so it needs an even number of levels")
        if gradient not in get_args(Gradient):
            raise ValueError(f"gradient {gradient!r}: expected one of {', '.join(get_args(Gradient))}")
        self.levels = tuple(levels)
        self.gradient = gradient
        self.tilings = nn.ModuleList(
            build_tiling(tiling, lx, ly) for lx, ly in zip(levels[::2], levels[1::2], strict=True)
        )
        self.codebook_sizes = tuple(grid.num_points for grid in self._grids())
        self.project_in = nn.Linear(dim, len(levels))
        self.project_out = nn.Linear(len(levels), dim)
        self.register_buffer("half_spans", self._place_half_spans(), persistent=False)

    def _grids(self) -> list[Tiling]:
        return [grid for grid in self.tilings if isinstance(grid, Tiling)]

    def fit(self, latents: Tensor) -> None:
        fit_projections(self.project_in, self.project_out, latents)

    def forward(self, latents: Tensor) -> BottleneckOutput:
        with torch.autocast(latents.device.type, enabled=False):
            unit = self._project_in(latents)
            scaled = unit * (self.half_spans * (1 + SPAN_MARGIN))
            points, codes = self._snap(scaled)
            carrier = scaled if self.gradient == "unit" else unit
            # x - x is exactly 0: the value stays that of the codes, where x + (points - x) would round.
            quantized = self._project_out((points + (carrier - carrier.detach())) / self.half_spans)
        return BottleneckOutput(quantized.to(latents.dtype), codes, quantized.new_zeros(()))

    def encode(self, latents: Tensor) -> Tensor:
        with torch.autocast(latents.device.type, enabled=False):
            return self._snap(self._project_in(latents) * (self.half_spans * (1 + SPAN_MARGIN)))[1]

    def decode(self, codes: Tensor) -> Tensor:
        if codes.ndim != 3 or codes.shape[1] != len(self.tilings):
            raise ValueError(f"codes {tuple(codes.shape)}: expected (batch, {len(self.tilings)}, frames)")
        with torch.autocast(codes.device.type, enabled=False):
            # Unlike points[codes], an embedding refuses negative codes.
            pairs = [F.embedding(codes[:, j], grid.points) for j, grid in enumerate(self._grids())]
            return self._project_out(torch.cat(pairs, dim=-1) / self.half_spans)

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

    def _place_half_spans(self) -> Tensor:
        return torch.tensor([(level - 1) / 2 for level in self.levels])

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        was_meta = self.half_spans.is_meta
        super()._apply(fn, recurse)
        if was_meta and not self.half_spans.is_meta:  # `to_empty` leaves the memory unset, and no state dict sets it
            self.half_spans.copy_(self._place_half_spans())
        return self

    def _project_in(self, latents: Tensor) -> Tensor:
        if latents.ndim != 3 or latents.shape[1] != self.dim:
            raise ValueError(f"latents {tuple(latents.shape)}: expected (batch, {self.dim}, frames)")
        return torch.tanh(self.project_in(latents.float().transpose(1, 2)))

    def _project_out(self, snapped: Tensor) -> Tensor:
        projected: Tensor = self.project_out(snapped)
        return projected.transpose(1, 2)

    def _snap(self, scaled: Tensor) -> tuple[Tensor, Tensor]:
        """Scaled values (batch, frames, d) -> points likewise and codes (batch, d / 2, frames)."""
        pairs = [grid.nearest(scaled[..., 2 * j : 2 * j + 2].detach()) for j, grid in enumerate(self._grids())]
        points, codes = zip(*pairs, strict=True)
        return torch.cat(points, dim=-1), torch.stack(codes, dim=1)
