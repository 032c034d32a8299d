"""Residual vector quantization: a chain of codebooks, each quantizing what the ones before it left."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional

from baselines.codebook import MAX_CODES, EmaCodebook, is_distributed
from baselines.projected import MAX_WEIGHT, ProjectedBottleneck, require
from q2d2.errors import shown
from q2d2.families import Family
from q2d2.limits import (
    MAX_CHANNELS,
    MAX_CODEBOOK_VALUES,
    require_integer,
    require_list,
    require_number,
    require_size,
)

MAX_STAGE_BITS = 10  # the size of codebooks of SoundStream, Encodec and DAC
DROPPED = -1  # the code of a quantizer that quantizer dropout left out


class RVQ(ProjectedBottleneck):
    """Residual VQ (SoundStream, Encodec) with quantizer dropout, over the same EMA codebook as VQ.

    The gradient goes straight through the sum once; the library's ResidualVQ passes it through every stage, so that
    the encoder's gradient grows with the number of quantizers. The loss is commitment_weight times the mean, over the
    quantizers used, of mean((residual - code)^2) in training, and 0 in eval mode.

    Quantizer dropout: a training forward uses the first n quantizers, n uniform in 1..num_quantizers, the same for the
    whole batch and on all ranks (rank 0 draws it from torch's CPU generator). Codes of the others are -1 in its output;
    eval mode and `encode` always use all. The first training forward uses all, so that every codebook is initialized.
    Until then `encode`, `decode` and eval-mode `forward` raise RuntimeError.

    Args:
        dim: channels of the latents.
        codebook_size: codes of each quantizer, or one integer >= 2 a quantizer.
        num_quantizers: number of quantizers, >= 1.
        codebook_dim: channels of a code; None: `dim`, without projections.
        quantizer_dropout: probability that a training forward drops quantizers; True is 1, False is 0.
        decay, kmeans_iters, dead_code_fraction, commitment_weight: as in VQ.

    Raises:
        ValueError: an option is out of range, or latents or codes have another shape.
    """

    lowest_code = DROPPED

    @classmethod
    def families(cls) -> list[Family]:
        return [Family("rvq", _nearest)]

    def __init__(
        self,
        dim: int,
        codebook_size: int | Sequence[int] = 1024,
        num_quantizers: int = 8,
        codebook_dim: int | None = None,
        quantizer_dropout: bool | float = True,
        decay: float = 0.99,
        kmeans_iters: int = 10,
        dead_code_fraction: float = 0.1,
        commitment_weight: float = 1.0,
    ) -> None:
        require_integer("num_quantizers", num_quantizers, 1, MAX_CHANNELS)
        require_number("commitment_weight", commitment_weight, 0, MAX_WEIGHT, f"a number in 0..{MAX_WEIGHT:g}")
        dropout = float(quantizer_dropout) if isinstance(quantizer_dropout, bool) else quantizer_dropout
        require_number("quantizer_dropout", dropout, 0, 1, "a probability")
        if isinstance(codebook_size, int):
            sizes = (codebook_size,) * num_quantizers
        else:
            require_list("codebook_size", codebook_size)
            sizes = tuple(codebook_size)
        require(len(sizes) == num_quantizers, f"codebook_size {shown(list(sizes))}: expected {num_quantizers} sizes")
        for size in sizes:
            require_integer("codebook_size", size, 2, MAX_CODES)
        inner_dim = dim if codebook_dim is None else codebook_dim
        super().__init__(dim, inner_dim, project=codebook_dim is not None)
        require_size("codes times channels of all codebooks", [sum(sizes), inner_dim], MAX_CODEBOOK_VALUES)
        self.quantizer_dropout = float(dropout)
        self.commitment_weight = commitment_weight
        self.codebooks = nn.ModuleList(
            EmaCodebook(inner_dim, size, decay, kmeans_iters, dead_code_fraction) for size in sizes
        )
        self.codebook_sizes = sizes

    def _stages(self) -> list[EmaCodebook]:
        return [codebook for codebook in self.codebooks if isinstance(codebook, EmaCodebook)]

    def quantize(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        depth = self._training_depth(frames.device) if self.training else len(self.codebooks)
        total, loss = torch.zeros_like(frames), frames.new_zeros(())
        codes = torch.full((*frames.shape[:2], len(self.codebooks)), DROPPED, device=frames.device)
        for stage, codebook in enumerate(self._stages()[:depth]):
            residual = frames - total
            chosen, codes[..., stage] = codebook.quantize(residual)
            total = total + chosen
            if self.training:
                loss = loss + self.commitment_weight / depth * functional.mse_loss(residual, chosen)
        return total, frames, codes, loss

    def nearest(self, frames: Tensor) -> Tensor:
        total, codes = torch.zeros_like(frames), []
        for codebook in self._stages():
            codes.append(codebook.nearest(frames - total))
            total = total + codebook.lookup(codes[-1])
        return torch.stack(codes, dim=-1)

    def lookup(self, codes: Tensor) -> Tensor:
        """As in ProjectedBottleneck; a code of -1 adds nothing, so that a training output's codes decode too."""
        # Summed in the order of `quantize`, so that the result is equal to the bit.
        total = codes.new_zeros((*codes.shape[:2], self._stages()[0].embed.shape[-1]), dtype=torch.float32)
        for codebook, stage in zip(self._stages(), codes.unbind(dim=-1), strict=True):
            dropped = stage == DROPPED
            chosen = codebook.lookup(stage.masked_fill(dropped, 0))
            total = total + chosen.masked_fill(dropped[..., None], 0.0)
        return total

    def _training_depth(self, device: torch.device) -> int:
        """How many quantizers this training forward uses."""
        # Drawn in every forward, used or not: the random stream does not depend on the state of the codebooks.
        drop, depth = torch.rand(()).item(), int(torch.randint(1, len(self.codebooks) + 1, ()))
        if self.quantizer_dropout == 0 or not all(codebook.is_ready() for codebook in self._stages()):
            return len(self.codebooks)
        depth = depth if drop < self.quantizer_dropout else len(self.codebooks)
        if is_distributed():  # ranks that disagreed would wait for each other's codebooks for ever
            agreed = torch.tensor(depth, device=device)
            dist.broadcast(agreed, src=0)
            depth = int(agreed)
        return depth


def _nearest(bits: float, channels: int) -> tuple[dict[str, Any], float]:
    stages = max(1, math.ceil(bits / MAX_STAGE_BITS - 1e-9))
    size = max(2, round(2 ** (bits / stages)))
    return {"codebook_size": size, "num_quantizers": stages}, stages * math.log2(size)
