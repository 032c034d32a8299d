"""What VQ, RVQ and FSQ share: projections around the quantizer, dtypes, shapes, the straight-through gradient."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from q2d2.borders import check_codes
from q2d2.bottleneck import Bottleneck, BottleneckOutput
from q2d2.limits import MAX_WIDTH, require_integer

MAX_WEIGHT = 1e6  # of a commitment loss


def require(condition: bool, message: str) -> None:
    """Raise ValueError(message) unless `condition`."""
    if not condition:
        raise ValueError(message)


class ProjectedBottleneck(Bottleneck):
    """Project each frame to `inner_dim` channels, quantize it there, project back; the frame of VQ, RVQ and FSQ.

    Subclasses implement `quantize`, `nearest` and `lookup` on frames (batch, frames, inner_dim) float32. The value of
    `quantized` is exactly the decoded codes', in training too; its gradient goes straight through to the frames.

    Latents are taken to float32 and autocast is off inside; `quantized` comes back in the latents' dtype, decoded
    latents in float32. Parameters must stay in float32.
    """

    def __init__(self, dim: int, inner_dim: int, project: bool) -> None:
        require_integer("dim", dim, 1, MAX_WIDTH)
        require_integer("codebook_dim", inner_dim, 1, MAX_WIDTH)
        super().__init__(dim)
        self.project_in: nn.Module = nn.Linear(dim, inner_dim) if project else nn.Identity()
        self.project_out: nn.Module = nn.Linear(inner_dim, dim) if project else nn.Identity()

    @abstractmethod
    def quantize(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Frames -> chosen vectors, what carries their gradient (both like frames), codes (batch, frames, q), loss."""

    @abstractmethod
    def nearest(self, frames: Tensor) -> Tensor:
        """Frames -> codes (batch, frames, quantizers) int64, without side effects in any mode."""

    @abstractmethod
    def lookup(self, codes: Tensor) -> Tensor:
        """Codes (batch, frames, quantizers) -> vectors (batch, frames, inner_dim) float32."""

    def forward(self, latents: Tensor) -> BottleneckOutput:
        with torch.autocast(latents.device.type, enabled=False):
            chosen, carrier, codes, loss = self.quantize(self._frames(latents))
            # x - x is exactly 0: the value stays that of the codes, where x + (chosen - x) would round.
            quantized = self.project_out(chosen + (carrier - carrier.detach())).transpose(1, 2)
        return BottleneckOutput(quantized.to(latents.dtype), codes.transpose(1, 2), loss)

    def encode(self, latents: Tensor) -> Tensor:
        with torch.autocast(latents.device.type, enabled=False):
            return self.nearest(self._frames(latents)).transpose(1, 2)

    def decode(self, codes: Tensor) -> Tensor:
        check_codes(codes, self.codebook_sizes, self.lowest_code)
        with torch.autocast(codes.device.type, enabled=False):
            quantized: Tensor = self.project_out(self.lookup(codes.transpose(1, 2)))
            return quantized.transpose(1, 2)

    def _frames(self, latents: Tensor) -> Tensor:
        require(
            latents.ndim == 3 and latents.shape[1] == self.dim,
            f"latents {tuple(latents.shape)}: expected (batch, {self.dim}, frames)",
        )
        frames: Tensor = self.project_in(latents.float().transpose(1, 2))
        return frames
