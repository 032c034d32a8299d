"""A codec of a few channels, without training."""

from __future__ import annotations

from typing import Any

import torch

from q2d2.bottleneck import build_bottleneck
from q2d2.codec import Codec, CodecConfig

SMALL = CodecConfig(
    sample_rate=8000, ratios=(3, 4), num_filters=2, dimension=8, lstm_layers=1, decoder_dim=64,
    decoder_intermediate=16, decoder_layers=2,
)  # fmt: skip
HOP = 12


def codec_with(bottleneck: str = "q2d2", config: CodecConfig = SMALL, **options: Any) -> Codec:
    torch.manual_seed(0)
    if bottleneck == "q2d2":
        options = {"levels": (7, 7, 5, 5)} | options
    return Codec(config, build_bottleneck(bottleneck, config.dimension, **options)).eval()
