"""Vector quantization: one codebook, the bottleneck of WavTokenizer."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor
from torch.nn import functional

from baselines.codebook import EmaCodebook
from baselines.projected import MAX_WEIGHT, ProjectedBottleneck
from q2d2.families import MAX_CODEBOOK, Family
from q2d2.limits import require_number


class VQ(ProjectedBottleneck):
    """One EMA codebook, as in WavTokenizer: nearest code, straight-through gradient, commitment loss.

    The loss is commitment_weight * mean((z - code)^2) in training (z: the projected frame) and 0 in eval mode. The
    codebook is a buffer: it learns from each training forward, not from the optimizer. Before the first of them
    `encode`, `decode` and eval-mode `forward` raise RuntimeError, so that no untrained codebook is scored.

    Args:
        dim: channels of the latents.
        codebook_size: number of codes, any integer >= 2 (bits per frame: its log2).
        codebook_dim: channels of a code; None: `dim`, without projections.
        decay: of the moving averages, in (0, 1).
        kmeans_iters: iterations of the k-means on the first training batch, >= 1.
        dead_code_fraction: fraction of uniform usage below which a code is replaced, in [0, 1); 0: never.
        commitment_weight: >= 0.

    Raises:
        ValueError: an option is out of range, or latents or codes have another shape.
    """

    @classmethod
    def families(cls) -> list[Family]:
        return [Family("vq", _nearest)]

    def __init__(
        self,
        dim: int,
        codebook_size: int = 4096,
        codebook_dim: int | None = None,
        decay: float = 0.99,
        kmeans_iters: int = 10,
        dead_code_fraction: float = 0.1,
        commitment_weight: float = 1.0,
    ) -> None:
        require_number("commitment_weight", commitment_weight, 0, MAX_WEIGHT, f"a number in 0..{MAX_WEIGHT:g}")
        inner_dim = dim if codebook_dim is None else codebook_dim
        super().__init__(dim, inner_dim, project=codebook_dim is not None)
        self.commitment_weight = commitment_weight
        self.codebook = EmaCodebook(inner_dim, codebook_size, decay, kmeans_iters, dead_code_fraction)
        self.codebook_sizes = (codebook_size,)

    def quantize(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        chosen, codes = self.codebook.quantize(frames)
        loss = self.commitment_weight * functional.mse_loss(frames, chosen) if self.training else frames.new_zeros(())
        return chosen, frames, codes[..., None], loss

    def nearest(self, frames: Tensor) -> Tensor:
        return self.codebook.nearest(frames)[..., None]

    def lookup(self, codes: Tensor) -> Tensor:
        return self.codebook.lookup(codes[..., 0])

    def published_state(self) -> dict[str, Tensor]:
        own = self.state_dict()
        # The library keeps a leading dimension for several codebooks at once; the published codebook has none.
        names = {"inited": own["codebook.initted"][None]}
        names |= {name: own[f"codebook.{name}"][0] for name in ("cluster_size", "embed", "embed_avg")}
        projections = {f"vq.layers.0.{name}": value for name, value in own.items() if name.startswith("project_")}
        return projections | {f"vq.layers.0._codebook.{name}": value for name, value in names.items()}


def _nearest(bits: float, channels: int) -> tuple[dict[str, Any], float]:
    size = min(MAX_CODEBOOK, max(2, round(2**bits)))
    return {"codebook_size": size}, math.log2(size)
