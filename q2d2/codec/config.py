"""Sizes of the backbone: the published one and two that a CPU can train."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from q2d2.errors import printable, shown
from q2d2.limits import MAX_PARAMETERS, MAX_WIDTH, require_integer, require_list
from q2d2.rates import check_rate

MAX_STRIDES, MAX_HOP = 16, 2**16
# Lowest and highest plausible values.
RANGES = {
    "num_filters": (2, MAX_WIDTH), "dimension": (1, MAX_WIDTH), "lstm_layers": (1, 64),
    "decoder_dim": (0, MAX_WIDTH), "decoder_intermediate": (1, MAX_WIDTH), "decoder_layers": (1, 256),
    "num_embeddings": (1, MAX_WIDTH),
}  # fmt: skip


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

    Raises:
        ValueError: a value is of another kind or not plausible, or all together give more than 2**30 parameters.
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
        require_list("ratios", self.ratios, MAX_STRIDES)
        object.__setattr__(self, "ratios", tuple(self.ratios))
        if not self.ratios or any(not isinstance(r, int) or isinstance(r, bool) or r < 1 for r in self.ratios):
            raise ValueError(f"ratios {shown(self.ratios)}: expected positive integers such as (8, 5, 4, 2)")
        if self.hop_length > MAX_HOP:
            raise ValueError(f"ratios {shown(self.ratios)}: expected a product of at most {MAX_HOP:,} samples a frame")
        for name, (low, high) in RANGES.items():
            require_integer(name, getattr(self, name), low, high)
        if self.decoder_dim < 1 or self.decoder_dim % 32:
            raise ValueError(f"decoder_dim {self.decoder_dim}: expected a multiple of 32")
        check_rate(self.sample_rate)
        if self.num_parameters > MAX_PARAMETERS:
            raise ValueError(f"{self.num_parameters:,} parameters in all, expected at most {MAX_PARAMETERS:,}")

    @property
    def hop_length(self) -> int:
        """Samples per frame."""
        return math.prod(self.ratios)

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.hop_length

    @property
    def num_parameters(self) -> int:
        """Of encoder, decoder and head, worked out without building them."""
        channels = self.num_filters
        total = _normalized(1, channels, 7)
        for ratio in reversed(self.ratios):
            inner = channels // 2
            total += _normalized(channels, inner, 3) + _normalized(inner, channels, 1)
            total += _normalized(channels, channels, 1) + _normalized(channels, 2 * channels, 2 * ratio)
            channels *= 2
        total += self.lstm_layers * 8 * channels * (channels + 1) + _normalized(channels, self.dimension, 7)
        dim, bins = self.decoder_dim, 4 * self.hop_length + 2
        total += _convolution(self.dimension, dim, 7) + 4 * (4 * dim + 2 * _convolution(dim, dim, 3))
        total += 2 * dim + 4 * _convolution(dim, dim, 1) + 2 * dim
        conditions = 2 * self.num_embeddings * dim
        block = _convolution(1, dim, 7) + conditions + 2 * self.decoder_intermediate * dim
        block += self.decoder_intermediate + 2 * dim
        return total + conditions + self.decoder_layers * block + 2 * dim + _convolution(dim, bins, 1)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as a checkpoint stores them."""
        return asdict(self) | {"ratios": list(self.ratios)}


def _convolution(channels_in: int, channels_out: int, kernel_size: int) -> int:
    return channels_out * (channels_in * kernel_size + 1)


def _normalized(channels_in: int, channels_out: int, kernel_size: int) -> int:
    return _convolution(channels_in, channels_out, kernel_size) + channels_out  # a length for each output


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
    if not isinstance(size, str) or size not in SIZES:
        raise ValueError(f"unknown codec size {shown(size)}. Known: {', '.join(SIZES)}.")
    unknown = set(changes) - set(SIZES[size].to_dict())
    if unknown:
        names, known = ", ".join(map(printable, sorted(unknown))), ", ".join(SIZES[size].to_dict())
        raise ValueError(f"codec size {size!r} has no {names}. Known: {known}.")
    return CodecConfig(**(SIZES[size].to_dict() | changes))
