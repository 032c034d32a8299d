"""Mimi (Défossez et al., "Moshi: a speech-text foundation model for real-time dialogue", 2024)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from baselines.codecs.pretrained import FILES, Layout, PretrainedCodec
from baselines.codecs.weights import HubWeights


class Mimi(PretrainedCodec):
    """Mimi at 24 kHz: 12.5 frames/s, 1 to 32 quantizers of 2048 codes (8 make 1.1 kbit/s).

    The first quantizer is semantic, and cannot be left out; the others are acoustic.
    """

    architecture = "MimiModel"
    weights: ClassVar[HubWeights] = HubWeights(
        repo="kyutai/mimi",
        revision="89091b3e466eb6a9d11e537bf26b144f194978f7",
        files=FILES,
        source="Kyutai, CC BY 4.0",
    )

    def layout(self, folder: Path) -> Layout:
        config = self.model.config
        hop_length = math.prod(config.upsampling_ratios) * config.latent_stride
        counts = range(config.num_semantic_quantizers, config.num_quantizers + 1)
        return Layout(config.sampling_rate, hop_length, config.codebook_size, counts)

    def codes_of(self, audio: Tensor) -> Tensor:
        codes: Tensor = self.model.encode(audio, num_quantizers=self.num_quantizers).audio_codes
        return codes

    def audio_of(self, codes: Tensor) -> Tensor:
        audio: Tensor = self.model.decode(codes).audio_values
        return audio.squeeze(1)

    def to(self, device: torch.device) -> None:
        super().to(device)
        for module in self.model.modules():
            if hasattr(module, "_embed"):
                module._embed = None  # codebooks that were computed on the former device, and are no buffers
