"""DAC (Kumar et al., "High-Fidelity Audio Compression with Improved RVQGAN", 2023)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import ClassVar

from torch import Tensor

from baselines.codecs.pretrained import FILES, Layout, PretrainedCodec, pad_to_frames
from baselines.codecs.weights import HubWeights


class DAC(PretrainedCodec):
    """DAC at 16 kHz: 50 frames/s, 1 to 12 quantizers of 1024 codes (up to 6 kbit/s).

    All 12 make the 600 tokens/s of published comparisons.
    """

    architecture = "DacModel"
    weights: ClassVar[HubWeights] = HubWeights(
        repo="descript/dac_16khz",
        revision="7c2fc5e759f1f501aefc6e7a0265cc57f5d17ba7",
        files=FILES,
        source="Descript, MIT",
    )

    def layout(self, folder: Path) -> Layout:
        config = self.model.config
        # Published configurations also hold a hop_length, of another model: the strides are what counts.
        hop_length = math.prod(config.downsampling_ratios)
        return Layout(config.sampling_rate, hop_length, config.codebook_size, range(1, config.n_codebooks + 1))

    def codes_of(self, audio: Tensor) -> Tensor:
        padded = pad_to_frames(audio, self.hop_length)
        codes: Tensor = self.model.encode(padded, n_quantizers=self.num_quantizers).audio_codes
        return codes

    def audio_of(self, codes: Tensor) -> Tensor:
        audio: Tensor = self.model.decode(audio_codes=codes).audio_values
        return audio


class DAC24kHz(DAC):
    """DAC at 24 kHz: 75 frames/s, 1 to 32 quantizers of 1024 codes (up to 24 kbit/s)."""

    weights: ClassVar[HubWeights] = HubWeights(
        repo="descript/dac_24khz",
        revision="6ba020b5ba7d9d8076fb90db7e67f27e31980f6e",
        files=FILES,
        source="Descript, MIT",
    )
