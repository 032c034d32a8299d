"""The frame of bottlenecks that snap groups of bounded channels to fixed points: Q2D2's, with groups of any size."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Literal, Protocol, Self, get_args

import torch
from torch import Tensor, nn

from q2d2.borders import check_codes
from q2d2.bottleneck import Bottleneck, BottleneckOutput
from q2d2.errors import shown
from q2d2.projection import fit_projections

Gradient = Literal["unit", "published"]

# tanh only reaches +-1 at infinity; the published margin lets finite inputs reach the border points.
SPAN_MARGIN = 1e-3


class PointSet(Protocol):
    """Numbered points in the space of a group of channels."""

    @property
    def num_points(self) -> int:
        """Number of codes."""
        ...

    def nearest(self, groups: Tensor, /) -> tuple[Tensor, Tensor]:
        """Groups (..., channels) float32 -> nearest points likewise and their codes (...) int64, without gradient."""
        ...


class SnappingBottleneck(Bottleneck):
    """Project to d channels, tanh, scale, snap each group of channels to its point set, project back.

    Codes are one index a group. There is no auxiliary loss. Subclasses set `codebook_sizes` from their point sets, all
    of which have d / number of sets channels.

    Args:
        dim: channels of the latents.
        channel_levels: levels of each of the d channels; tanh is scaled to half_spans = (levels - 1) / 2.
        gradient: "unit" passes the gradient straight through on the scaled value, so that it reaches tanh with
            factor 1; "published" does so on the unscaled value and then divides by half the span. The forward values
            are the same.

    Raises:
        ValueError: an unknown gradient; or latents or codes of another shape.
    """

    is_product = True
    half_spans: Tensor

    def __init__(self, dim: int, channel_levels: Sequence[int], gradient: Gradient) -> None:
        super().__init__(dim)
        if gradient not in list(get_args(Gradient)):
            raise ValueError(f"gradient {shown(gradient)}: expected one of {', '.join(get_args(Gradient))}")
        self.gradient = gradient
        self._channel_levels = tuple(channel_levels)
        self.project_in = nn.Linear(dim, len(channel_levels))
        self.project_out = nn.Linear(len(channel_levels), dim)
        self.register_buffer("half_spans", self._place_half_spans(), persistent=False)

    @abstractmethod
    def _sets(self) -> Sequence[PointSet]:
        """The point set of each group, in the order of the channels."""

    @abstractmethod
    def _look_up(self, group: int, codes: Tensor) -> Tensor:
        """Codes (batch, frames) of one group -> its points (batch, frames, channels of the group), float32.

        Raises:
            IndexError: a code outside the point set.
        """

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
        check_codes(codes, self.codebook_sizes)
        with torch.autocast(codes.device.type, enabled=False):
            groups = [self._look_up(group, codes[:, group]) for group in range(len(self._sets()))]
            return self._project_out(torch.cat(groups, dim=-1) / self.half_spans)

    def _place_half_spans(self) -> Tensor:
        return torch.tensor([(level - 1) / 2 for level in self._channel_levels])

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
        """Scaled values (batch, frames, d) -> points likewise and codes (batch, groups, frames)."""
        sets = self._sets()
        groups = scaled.detach().split(scaled.shape[-1] // len(sets), dim=-1)
        points, codes = zip(*(each.nearest(group) for each, group in zip(sets, groups, strict=True)), strict=True)
        return torch.cat(points, dim=-1), torch.stack(codes, dim=1)
