"""Sizes of the backbone: the published one and two that a CPU can train."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from q2d2.rates import check_rate


@dataclass(frozen=True)
class CodecConfig:
    """Shape of a WavTokenizer backbone, everything but its bottleneck.

    Attributes:
        sample_rate: Hz, as `q2d2.rates.check_rate` allows.
        ratios: strides as published configurations list them; the encoder applies them in reverse order.
        num_filters: channels after the encoder's first convolution; doubled by every stride.
        dimension: channels of the latents, the bottleneck's input and output.
        lstm_layers: layers of the LSTM at the encoder's end.
        decoder_dim: channels of the decoder; a multiple of 32 (group normalization). With 32 itself, one channel a
            group, audio of a single frame cannot be normalized.
        decoder_intermediate: inner channels of each ConvNeXt block.
        decoder_layers: number of ConvNeXt blocks.
        num_embeddings: conditions of the adaptive layer normalization ("bandwidths" in the published code).
    """

    sample_rate: int = 24000
    ratios: tuple[int, ...] = (8, 5, 4, 2)
    num_filters: int = 32
    dimension: int = 512
    lstm_layers: int = 2
    decoder_dim: int = 768
    decoder_intermediate: int = 2304
    decoder_layers: int = 12
    num_embeddings: int = 4

    def __post_init__(self) -> None:
        object.__setattr__(self, "ratios", tuple(self.ratios))
        if not self.ratios or any(not isinstance(r, int) or r < 1 for r in self.ratios):
            raise ValueError(f"ratios {self.ratios}: expected positive integers such as (8, 5, 4, 2)")
        if self.decoder_dim < 1 or self.decoder_dim % 32:
            raise ValueError(f"decoder_dim {self.decoder_dim}: expected a multiple of 32")
        check_rate(self.sample_rate)

    @property
    def hop_length(self) -> int:
        """Samples per frame."""
        return math.prod(self.ratios)

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.hop_length

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as a checkpoint stores them."""
        return asdict(self) | {"ratios": list(self.ratios)}


SIZES: dict[str, CodecConfig] = {
    "wavtokenizer": CodecConfig(),
    "small": CodecConfig(
        sample_rate=16000, ratios=(5, 4, 4, 2), num_filters=16, dimension=128,
        decoder_dim=256, decoder_intermediate=768, decoder_layers=8,
    ),
    "tiny": CodecConfig(
        sample_rate=16000, ratios=(4, 4, 8), num_filters=8, dimension=32,
        decoder_dim=128, decoder_intermediate=384, decoder_layers=6,
    ),
}  # fmt: skip


def codec_config(size: str, **changes: Any) -> CodecConfig:
    """The named size with single values changed, for instance `codec_config("wavtokenizer", ratios=(6, 5, 5, 3))`.

    Raises:
        ValueError: unknown size, unknown field or a value out of range.
    """
    if size not in SIZES:
        raise ValueError(f"unknown codec size {size!r}. Known: {', '.join(SIZES)}.")
    unknown = set(changes) - set(SIZES[size].to_dict())
    if unknown:
        raise ValueError(
            f"codec size {size!r} has no {', '.join(sorted(unknown))}. Known: {', '.join(SIZES[size].to_dict())}."
        )
    return CodecConfig(**(SIZES[size].to_dict() | changes))
