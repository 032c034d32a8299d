"""The interface every bottleneck implements, the table of known ones, and the null bottleneck."""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from q2d2.errors import shown
from q2d2.families import Family
from q2d2.plain_values import shortened
from q2d2.registry import Registry

# Baselines and other packages' bottlenecks join through the entry-point group (see pyproject.toml).
BOTTLENECKS = Registry(
    "bottleneck",
    group="q2d2.bottlenecks",
    entries={
        "unquantized": "q2d2.bottleneck:NullBottleneck",
        "q2d2": "q2d2.quantizer:Q2D2",
        "lattice": "q2d2.lattice_quantizer:LatticeQuantizer",
    },
    # Readers of tables take "null" for a cell without a value.
    former={"null": "unquantized"},
)


class BottleneckOutput(NamedTuple):
    """What a bottleneck returns in training and evaluation alike.

    quantized: (batch, dim, frames), differentiable with respect to the latents.
    codes: (batch, quantizers, frames) int64, code q in [0, codebook_sizes[q]).
    loss: scalar auxiliary loss, already weighted inside the bottleneck; 0 where none is needed.
    """

    quantized: Tensor
    codes: Tensor
    loss: Tensor


class Bottleneck(nn.Module, ABC):
    """Discretizes latents (batch, dim, frames).

    Subclasses take `dim` first and keyword options after it, set `codebook_sizes`, and implement `forward`,
    `encode` and `decode`. In eval mode `decode(encode(x))` equals `forward(x).quantized`.

    Attributes:
        dim: channels of the latents.
        codebook_sizes: number of codes of each quantizer; empty for a continuous bottleneck.
        lowest_code: 0, or -1 where `decode` takes it for a quantizer that was left out.
        is_product: the codes of a frame are the digits of one index, as the family's papers count tokens (Q2D2, FSQ).
    """

    codebook_sizes: tuple[int, ...] = ()
    is_product: ClassVar[bool] = False
    lowest_code: ClassVar[int] = 0
    spec: dict[str, Any]

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    @property
    def bits_per_frame(self) -> float:
        """Nominal bits of one frame: sum of log2 of the codebook sizes; 0 where there are no codes."""
        return sum(math.log2(size) for size in self.codebook_sizes)

    @property
    def tokens_per_frame(self) -> int:
        """Indices of one frame as published tables count them: one a quantizer, or one for a product of codes."""
        return tokens_per_frame(type(self), self.codebook_sizes)

    @classmethod
    def families(cls) -> Sequence[Family]:
        """Its families at equal rates, by which sweeps and `evalkit tune` choose sizes; none by default."""
        return ()

    def fit(self, latents: Tensor) -> None:
        """Start from latents (batch, dim, frames) of a trained backbone; called before a warm-started training.

        Nothing by default: codebooks run k-means on their first training batch anyway.
        """

    @abstractmethod
    def forward(self, latents: Tensor) -> BottleneckOutput:
        """Quantize latents (batch, dim, frames); in training this may also update a codebook."""

    @abstractmethod
    def encode(self, latents: Tensor) -> Tensor:
        """Latents (batch, dim, frames) -> codes (batch, quantizers, frames) int64."""

    @abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """Codes (batch, quantizers, frames) -> quantized latents (batch, dim, frames)."""

    def published_state(self) -> dict[str, Tensor]:
        """The state under the names and shapes that the published checkpoints give it, relative to their quantizer.

        The tensors share memory with the module's own: read them to export, copy into them to load. A bottleneck that
        no published model has keeps its own names.
        """
        return dict(self.state_dict())


def tokens_per_frame(kind: type[Bottleneck], codebook_sizes: Sequence[int]) -> int:
    """`Bottleneck.tokens_per_frame` of what is known by its class and the sizes of its codebooks."""
    return min(1, len(codebook_sizes)) if kind.is_product else len(codebook_sizes)


class NullBottleneck(Bottleneck):
    """Identity without codes: what the backbone alone can do, the ceiling of every bottleneck.

    Its "codes" are the latents themselves passed through, so that a codec's encode and decode still compose.
    """

    def forward(self, latents: Tensor) -> BottleneckOutput:
        no_codes = torch.empty(latents.shape[0], 0, latents.shape[-1], dtype=torch.int64, device=latents.device)
        return BottleneckOutput(latents, no_codes, latents.new_zeros(()))

    def encode(self, latents: Tensor) -> Tensor:
        return latents

    def decode(self, codes: Tensor) -> Tensor:
        return codes


def build_bottleneck(name: str, dim: int, /, **options: Any) -> Bottleneck:
    """Build the bottleneck registered as `name` for `dim` latent channels.

    The returned module carries `spec` = {"name": name, **options}, which is what a checkpoint stores.

    Raises:
        UnknownName: no such bottleneck.
        ValueError: an option is unknown or out of range.
    """
    if not isinstance(name, str):
        raise ValueError(f"bottleneck {shown(name)}: expected the name of one")
    cls = BOTTLENECKS.resolve(name)
    try:
        bottleneck: Bottleneck = cls(dim, **options)
    except (TypeError, AttributeError, LookupError, ArithmeticError, RuntimeError) as error:
        # What a constructor stumbles over that did not check its options; ours do.
        known = [option for option in inspect.signature(cls).parameters if option != "dim"]
        raise ValueError(
            f"bottleneck {name!r}: {shortened(error)}. Its options: {', '.join(known) or 'none'}."
        ) from error
    bottleneck.spec = {"name": name, **options}
    return bottleneck
